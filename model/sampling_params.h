// How a token is chosen from logits: the parameters a request carries.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace thermocline::model {

struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy
  float top_p = 1.0f;               // (0, 1]; 1 = off
  int top_k = 0;                    // <= 0 = off
  float min_p = 0.0f;               // [0, 1]; 0 = off
  float presence_penalty = 0.0f;    // [-2, 2], generated tokens only (OpenAI)
  float frequency_penalty = 0.0f;   // [-2, 2], generated tokens only (OpenAI)
  float repetition_penalty = 1.0f;  // > 0, prompt and generated tokens; 1 = off
  uint64_t seed = 0;
  int n_logprobs = -1;         // -1: none; 0: of the chosen token; k: and of the k best (<= 20)
  int n_prompt_logprobs = -1;  // the same for prompt tokens (echo with logprobs)
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> banned_ids;  // never sampled

  bool has_penalties() const {
    return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1;
  }
  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
  // kInvalidArgument names the parameter, its value and its range.
  Status Validate() const;
};

inline constexpr int kMaxLogprobs = 20;  // OpenAI's limit for top_logprobs
inline constexpr int kMaxLogitBias = 1024;

}  // namespace thermocline::model
