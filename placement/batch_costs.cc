#include "placement/batch_costs.h"

#include <algorithm>
#include <utility>

#include "placement/context.h"

namespace thermocline::placement {
namespace {

// None where the request is out of range, which whoever plans is told.
int64_t MostPages(const PlannerInputs& inputs, const PlanRequest& request) {
  const auto demand = DemandOf(inputs.config, request);
  return demand.ok() ? demand->wanted_pages : 0;
}

}  // namespace

int64_t StreamsOf(const PlannerOptions& options) { return std::max(options.n_streams, int64_t{1}); }

BatchCosts::BatchCosts(const PlannerInputs& inputs, const PlannerOptions& options, PairWires wires)
    : inputs_(inputs),
      options_(options),
      wires_(std::move(wires)),
      bytes_(ModelBytes::Of(inputs.config, inputs.weights, options.request.ffn)),
      overhead_(inputs.config, inputs.weights, options.request.ffn, options.request.max_step_tokens,
                MostPages(inputs, options.request)) {}

const CostModel& BatchCosts::Of(int64_t n_sequences) {
  const MutexLock lock(mutex_);
  const auto known = by_batch_.find(n_sequences);
  if (known != by_batch_.end()) return known->second;
  CostInputs of_batch = CostInputsOf(inputs_, options_, n_sequences);
  of_batch.wires = wires_;
  return by_batch_.emplace(n_sequences, CostModel(of_batch)).first->second;
}

}  // namespace thermocline::placement
