// The outer problem of placement: contiguous ranges of layers on disjoint groups of devices.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "placement/solver/split_solver.h"

namespace thermocline::placement {

// What the search asks about a model on a cluster. Implemented by the cost model; pure.
class StageModel {
 public:
  virtual ~StageModel() = default;
  virtual int n_layer() const = 0;
  virtual int n_devices() const = 0;
  // Equal numbers: interchangeable in every answer below.
  virtual int DeviceType(int device) const = 0;
  // Layers [begin, end) on a group whose first device leads; with the embedding when begin is 0 and
  // the head when end is n_layer, in fixed_s and in memory left. Nullopt: does not fit at all. The
  // seconds of a device for a layer's blocks depend on the device alone, and its memory does not
  // grow with the layers of the stage.
  virtual std::optional<SplitProblem> Problem(int begin, int end,
                                              const std::vector<int>& group) const = 0;
  // For bounds, which give devices memory of their own: the same, whether it fits or not.
  virtual SplitProblem Times(int begin, int end, const std::vector<int>& group) const {
    return Problem(begin, end, group).value_or(SplitProblem{});
  }
  // For bounds: the most that a device can have for neurons and for what layers take that it leads
  // (LeadBytes), leading or helping. One that holds blocks in fewer bytes than problems say has so
  // much more that whatever it can hold fits by what they say.
  virtual uint64_t MostMemory(int device) const;
  // Of that, what a layer takes of a device that leads it, whatever the split and the stage.
  virtual uint64_t LeadBytes(int /*layer*/, int /*device*/) const { return 0; }
  // And what each helper of a stage takes of one that leads it.
  virtual uint64_t HelperBytes(int /*device*/) const { return 0; }
  // From one stage's lead to the next one's, per token.
  virtual double HopSeconds(int from, int to) const = 0;
};

struct StageSearchOptions {
  SplitOptions inner;  // objective and policy hold for the whole
  // Lead and helpers of groups that are tried in all combinations; moves may make larger ones.
  int max_group = 4;
  bool with_bound = true;                   // of all plans; false: lower_bound is 0
  const std::atomic<bool>* stop = nullptr;  // set: ends with kAborted after the solve under way
};

struct StageChoice {
  int begin = 0;
  int end = 0;
  std::vector<int> group;  // the lead first; members without any range are left out
  SplitSolution solution;
};

struct StageSearchResult {
  std::vector<StageChoice> stages;
  double seconds = 0;       // a token through all stages and hops
  double bottleneck_s = 0;  // the busiest device
  double value = 0;
  // Of any plan on these devices (ClusterBound); and of the stages as chosen,
  // with any splits.
  double lower_bound = 0;
  double structure_bound = 0;
  double gap() const { return value > 0 ? (value - lower_bound) / value : 0; }
};

// A dynamic program over layers and devices used (exact in its estimates while the states at a
// layer are few, else the best of them), moves of devices between stages, then exact solves of the
// stages chosen and shifts of their cuts. kPipelineOnly makes groups of one; the other baselines
// one stage of all devices. kResourceExhausted when no plan fits.
Result<StageSearchResult> SearchStages(const StageModel& model, const StageSearchOptions& options);

}  // namespace thermocline::placement
