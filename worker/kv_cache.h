// The attention keys and values of one stage's layers, in pages that sequences take and give back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "model/config.h"
#include "placement/plan.h"

namespace thermocline::worker {

// Owns one region sized by the plan; page `p` of every layer belongs to the same sequence and
// positions. Step thread only.
class KvCache {
 public:
  // Of `n_heads` KV heads of each layer. kResourceExhausted when the device has no memory of that
  // size.
  static Result<KvCache> Create(const model::ModelConfig& config, int n_heads, int n_layers,
                                const placement::KvBudget& budget, kernels::Device& device);

  // Makes room in the list itself, so that growing it up to `n_positions` allocates nothing: 4
  // bytes a page, of at most the pages that there are.
  void MakeRoom(int64_t n_positions, std::vector<int32_t>* page_ids) const;
  // Grows `page_ids` until it covers `n_positions`; kResourceExhausted leaves it as it was.
  Status Reserve(int64_t n_positions, std::vector<int32_t>* page_ids);
  void Release(std::vector<int32_t>* page_ids);

  // The pages of one of the stage's layers, counted from 0.
  kernels::KvPages Layer(int layer) const;
  int64_t n_pages() const { return n_pages_; }
  int64_t n_pages_used() const { return n_pages_ - static_cast<int64_t>(free_.size()); }

 private:
  uint64_t PagesOf(int64_t n_positions) const;

  Buffer memory_;
  kernels::KvPages shape_;  // of a layer; k and v are set per layer
  int64_t n_pages_ = 0;
  std::vector<int32_t> free_;  // the lowest id last, so that pages are reused in a fixed order
};

}  // namespace thermocline::worker
