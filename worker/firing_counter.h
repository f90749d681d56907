// Counts how often neurons fire while the service runs, from the lists of active neurons that exist
// anyway; what the coordinator plans by.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/operands.h"
#include "proto/messages.h"
#include "worker/shard.h"

namespace thermocline::worker {

// Of one stage or helper. Looks at one token of some steps, so that it costs next to nothing. Step
// thread only.
class FiringCounter {
 public:
  // `shard` outlives it.
  FiringCounter(const Shard& shard, const model::LayerRange& layers)
      : shard_(shard),
        first_layer_(layers.begin),
        layers_(static_cast<size_t>(layers.end - layers.begin)) {}

  // A layer has computed the neurons of `active` for the tokens of a[n_tokens, n_held]; columns of
  // others are not read.
  void OnNeurons(int layer_in_stage, const kernels::ActiveIds& active, TensorView a);

  // The parts of OnNeurons, for those who see a layer's neurons later than it computes them.
  // Whether this step of the layer is to be looked at.
  bool IsDue(int layer_in_stage) const;
  // The step has passed, looked at or not.
  void Pass(int layer_in_stage) { ++layers_[static_cast<size_t>(layer_in_stage)].n_seen; }
  // Which row of a[n_rows, n_held] is to be looked at next.
  int64_t RowToSee(int layer_in_stage, int64_t n_rows) const;
  // Counts the neurons of `active` whose activation in that row is not 0.
  void Count(int layer_in_stage, const kernels::ActiveIds& active, std::span<const float> values);

  // Tells what was counted since the last time, at most every kReportInterval and a few layers at a
  // time; layers with few tokens wait.
  Status Report(Epoch epoch, TimePoint now,
                const std::function<Status(const proto::Message&)>& send);

 private:
  struct Layer {
    uint64_t n_seen = 0;           // steps, looked at or not
    uint64_t n_tokens = 0;         // looked at
    std::vector<uint32_t> counts;  // by place
  };
  proto::FiringCounts Take(Epoch epoch, size_t layer);

  const Shard& shard_;
  const int first_layer_;
  std::vector<Layer> layers_;
  size_t next_layer_ = 0;  // to tell of
  TimePoint last_report_;
};

}  // namespace thermocline::worker
