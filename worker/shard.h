// The weights one worker holds: matrices copied out of the mapped model file into huge pages, in
// the layout that the device's ops read fastest; lookup tables and vectors where they are mapped.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "model/graph.h"
#include "model/range_reader.h"
#include "model/weights.h"

namespace thermocline::worker {

// Bytes loaded so far and in all; called from the loading thread every few MiB and while it waits.
// An error, kAborted by custom, ends the load.
using LoadProgressFn = std::function<Status(uint64_t bytes_done, uint64_t bytes_total)>;
// For those who load without anybody watching.
inline Status IgnoreProgress(uint64_t, uint64_t) { return OkStatus(); }

struct LoadReport {
  uint64_t owned_bytes = 0;  // of the file, as the plan counts them
  uint64_t read_bytes = 0;   // touched in the file
  std::string note;          // what was re-laid, for the log; "" when nothing was
};

// Immutable once loaded. The reader must outlive it.
class Shard {
 public:
  // Loads the weights of `layers`, and touches no other page of the file. With
  // `ffn.down_by_neuron`, a file's ffn_down [n_embd, n_ff] is re-laid into rows per neuron: the
  // same dtype for float weights, F16 for quantised ones. kDataLoss or kUnavailable when bytes
  // cannot be read, kUnavailable when the device cannot use them where they lie,
  // kResourceExhausted without memory for copies, and what `on_progress` returns.
  static Result<Shard> Load(const model::WeightIndex& weights, const model::RangeReader& reader,
                            const model::LayerRange& layers, const model::FfnOptions& ffn,
                            kernels::Device& device, const LoadProgressFn& on_progress);

  // The view of a weight, empty when the model has none.
  TensorView View(const model::WeightKey& key) const;
  const LoadReport& report() const { return report_; }

 private:
  Status ReadBytes(std::span<const std::byte> bytes, const LoadProgressFn& on_progress);
  using EvictFn = std::function<void(uint64_t begin, uint64_t n_bytes)>;
  // Copies a matrix to the device's memory in the layout that its ops read fastest, piece by piece,
  // handing each piece of the file back.
  Status Pack(const model::WeightKey& key, TensorView mapped, kernels::Device& device,
              const EvictFn& evict, const LoadProgressFn& on_progress);
  Status Relay(int layer, TensorView mapped, kernels::Device& device);

  std::map<model::WeightKey, TensorView> views_;
  std::vector<Buffer> copies_;
  LoadReport report_;
};

}  // namespace thermocline::worker
