// Steps as a service runs them: sequences come with prompts, go on together, and go.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "proto/messages.h"

namespace thermocline::testing {

// A step of one token of each sequence, given where they are.
proto::StepBatch DecodeStep(const std::map<uint64_t, int64_t>& positions);
// One of n_tokens of a sequence's prompt, from a position on.
proto::StepBatch Prompt(uint64_t seq, int64_t position, int n_tokens);
// Prompts, some of one token, in steps of their own or with others' tokens; some steps of what
// lives; and again. Tokens are below 280.
std::vector<proto::StepBatch> RandomService(uint32_t seed, int n_stretches);

}  // namespace thermocline::testing
