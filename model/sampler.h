// Chooses a token from one row of logits. The choice depends on the logits, the parameters, the
// seed and the position only; never on batch composition, rank or thread count.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "model/sampling_params.h"

namespace thermocline::model {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

// A chosen (or given) token with the log-probabilities that were asked for. They are those of the
// raw logits (softmax at temperature 1, before penalties), as OpenAI reports them.
struct SampledToken {
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;  // best first; empty unless asked for
  friend bool operator==(const SampledToken&, const SampledToken&) = default;
};

// How often each token occurred in one sequence, for the penalties. Thread-compatible.
struct TokenHistory {
  std::unordered_map<int32_t, int> prompt_counts;
  std::unordered_map<int32_t, int> generated_counts;
};

// Scratch is reused from call to call, so that the step loop does not allocate once warm.
// Thread-compatible.
class Sampler {
 public:
  // `logits` has n_vocab entries and is not changed; `position` is the index in the sequence of the
  // token being chosen. Ties go to the lower id. Order of the filters: logit bias, penalties,
  // temperature, top-k, top-p, min-p; then the inverse of the distribution function at
  // UniformAt(seed, position).
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params,
                      const TokenHistory& history, uint64_t position);

  // The log-probability of a given token and of the `n_top` best.
  SampledToken Score(std::span<const float> logits, int32_t token, int n_top);

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace thermocline::model
