// The inner solver: how to split the FFNs of a stage over its group, with a certificate.
#pragma once

#include "placement/solver/baselines.h"
#include "placement/solver/layer_tables.h"
#include "placement/solver/split_cost.h"

namespace thermocline::placement {

struct SplitOptions {
  SplitObjective objective;
  SplitPolicy policy = SplitPolicy::kOptimal;
  int item_blocks = 1;   // of kPowerInfer
  double gap = 5e-4;     // at which column generation may stop
  int max_rounds = 100;  // of column generation
  // False, for estimates: lower_bound is WorkBound alone, and less is done to improve the split.
  bool certify = true;
  // False: lower_bound holds for any assignment of blocks, in intervals or not.
  bool in_intervals = true;
  bool with_bound = true;  // false: of a thorough search too lower_bound is WorkBound or the value
};

struct SplitSolution {
  Split split;
  SplitCost cost;
  double value = 0;        // of the objective
  double lower_bound = 0;  // no split is below; 0 <= lower_bound <= value
  int rounds = 0;          // of column generation
  SplitPrices prices;      // of memory and busy time, by kOptimal; best known
  double gap() const { return value > 0 ? (value - lower_bound) / value : 0; }
};

// No split of the problem has a value below: all devices at work all the time, and nothing for
// links and memory. Cheap: one pass over the blocks.
double WorkBound(const SplitProblem& problem, SplitObjective objective);

// kOptimal is never worse than any baseline that fits. kInvalidArgument: CheckProblem, or a latency
// weight outside [0, 1]. kResourceExhausted: the devices' memory is too small (by how much), or the
// policy finds no split within it.
Result<SplitSolution> SolveSplit(const SplitProblem& problem, const SplitOptions& options);

}  // namespace thermocline::placement
