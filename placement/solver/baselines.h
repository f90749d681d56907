// Splits as others make them: what ours is measured against, and a start for it.
#pragma once

#include <optional>
#include <string_view>

#include "placement/solver/split_problem.h"

namespace thermocline::placement {

enum class SplitPolicy : uint8_t {
  kOptimal,          // SolveSplit's own
  kFrequencyGreedy,  // what PowerInfer ships: the hottest blocks of all layers to the fastest
                     // memory
  kProportional,     // every layer's work by the devices' speeds, as far as memory goes
  kPipelineOnly,     // no split: the lead has it all
  kPowerInfer,       // PowerInfer's program: as kFrequencyGreedy, but a device's part of a layer is
                     // 0 or large enough to pay for its synchronisation (inequality 4)
};

// As in --policy: "optimal", "frequency-greedy", "proportional", "pipeline-only", "powerinfer".
std::string_view SplitPolicyName(SplitPolicy policy);
std::optional<SplitPolicy> ParseSplitPolicy(std::string_view name);

// Nullopt when the policy finds no split within memory and least parts, and for kOptimal.
// `item_blocks`: blocks that kPowerInfer places together (its 256 neurons).
std::optional<Split> BaselineSplit(const SplitProblem& problem, SplitPolicy policy,
                                   int item_blocks = 1);

}  // namespace thermocline::placement
