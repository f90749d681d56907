// Why neighbouring stages are cut apart: what the cut saves and costs against both as one stage, or
// whose memory forces it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/status.h"
#include "placement/batch_costs.h"
#include "placement/plan.h"
#include "placement/planner.h"

namespace thermocline::placement {

// One stage in place of two neighbours, led by one of their leads; the other gets nothing, helpers
// keep their neurons, and the KV keeps its pages. Its heads are shared anew where the plan shares
// any.
struct JoinedStage {
  WorkerId lead;
  uint64_t needed_bytes = 0;  // of the lead, with all attention and KV of the layers
  uint64_t memory_bytes = 0;  // that it may use
  int n_room = 0;  // layers that it has room for: the first ones, or of the second lead the last
  std::optional<PlanSpeed> speed;  // of the plan with it; none: lead or helpers lack the memory
  bool has_room() const { return needed_bytes <= memory_bytes; }
};

struct CutWorth {
  int n_layers = 0;         // of both stages
  int64_t n_kv_tokens = 0;  // that they keep
  bool has_helpers = false;
  std::array<JoinedStage, 2> joined;  // led by the first stage's lead, and by the second's
  int64_t n_sequences = 1;            // of one of the plan's batches
  uint64_t hop_bytes = 0;             // of its activations
  double hop_s = 0;                   // one way
  // The better of those that fit; null: neither does.
  const JoinedStage* best() const;
};

// Of the cut between stages `i` and `i + 1` of a valid plan. Errors as ForecastPlan.
Result<CutWorth> WeighCut(const Plan& plan, size_t i, BatchCosts& costs);
// For people, of a plan of that speed.
std::string CutText(const CutWorth& cut, const PlanSpeed& speed);

// Adds to the reason of every stage but the last why it ends there; of a cut that cannot be weighed
// nothing, and nothing more once the options' `stop` is set: words are no ground to refuse a plan.
void TellCuts(BatchCosts& costs, PlannedModel* planned);

}  // namespace thermocline::placement
