// The best split by trying every one: the oracle of the solver on small problems.
#pragma once

#include "placement/solver/split_cost.h"

namespace thermocline::placement {

// Every assignment of intervals, in any order of devices, within memory and least parts; infinite
// when there is none. For two or three devices and a few layers and blocks.
double BestValueByBruteForce(const SplitProblem& problem, SplitObjective objective);

}  // namespace thermocline::placement
