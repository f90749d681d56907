// Cost models of one cluster, by the sequences of a step.
#pragma once

#include <cstdint>
#include <map>

#include "base/mutex.h"
#include "placement/cost_model.h"
#include "placement/model_bytes.h"
#include "placement/overhead.h"
#include "placement/plan_links.h"
#include "placement/planner.h"

namespace thermocline::placement {

// Streams that plans are made for: 1 or more.
int64_t StreamsOf(const PlannerOptions& options);

// Makes a cost model when it is first asked for and keeps it. Any thread may call it. Inputs and
// options outlive it.
class BatchCosts {
 public:
  BatchCosts(const PlannerInputs& inputs, const PlannerOptions& options, PairWires wires);

  const CostModel& Of(int64_t n_sequences);
  const PlannerInputs& inputs() const { return inputs_; }
  const PlannerOptions& options() const { return options_; }
  const ModelBytes& bytes() const { return bytes_; }
  const OverheadModel& overhead() const { return overhead_; }

 private:
  const PlannerInputs& inputs_;
  const PlannerOptions& options_;
  const PairWires wires_;
  const ModelBytes bytes_;
  const OverheadModel overhead_;
  Mutex mutex_;
  std::map<int64_t, CostModel> by_batch_ GUARDED_BY(mutex_);
};

}  // namespace thermocline::placement
