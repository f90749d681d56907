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

// One of the largest logits of a row, as Sample would see it: no NaN, no +inf.
struct BestLogit {
  float logit = 0;
  int32_t token = 0;
};

// How often each token occurred in one sequence; read for the penalties only, so it may stay empty
// where SamplingParams::has_penalties is false. Thread-compatible.
struct TokenHistory {
  std::unordered_map<int32_t, int> prompt_counts;
  std::unordered_map<int32_t, int> generated_counts;
};

// Scratch is reused from call to call, so that the step loop does not allocate once warm (the list
// of top log-probabilities, when asked for, excepted). A NaN logit counts as -inf and +inf as the
// largest float, so that a broken row still gives one well-defined token. Thread-compatible.
class Sampler {
 public:
  // `logits` has n_vocab entries and is not changed; `position` is the index in the sequence of the
  // token being chosen. In this order:
  //   1. logit_bias is added (ids outside the vocabulary are ignored);
  //   2. of every token seen in prompt or output, a positive logit is divided and a negative one
  //      multiplied by repetition_penalty; of every generated token, frequency_penalty * count and
  //      presence_penalty are subtracted;
  //   3. banned ids are removed, and tokens of logit -inf;
  //   4. temperature 0 ends here: the largest logit, ties to the lower id;
  //   5. p_i = softmax(logit_i / temperature), in double;
  //   6. top_k keeps the k largest, ties to the lower id;
  //   7. top_p keeps the shortest prefix, largest first, whose share of what 6 left reaches top_p;
  //   8. min_p keeps what has at least min_p times the largest probability;
  //   9. the first token, by ascending id, at which the distribution function of what is left
  //      exceeds UniformAt(seed, position).
  // When nothing is left after 3: the lowest id that is not banned, or 0 when all are.
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params,
                      const TokenHistory& history, uint64_t position);

  // How many of the largest logits of a row Sample would choose from, whatever the others are; 0:
  // it must see all of them.
  static int BestNeeded(const SamplingParams& params);
  // What Sample would choose where BestNeeded is not 0, from as many or more: larger logits first,
  // then lower tokens.
  SampledToken SampleBest(std::span<const BestLogit> best, const SamplingParams& params,
                          uint64_t position);

  // The log-probability of a given token and of the `n_top` best. Ids outside the vocabulary and
  // tokens of logit -inf have -inf.
  SampledToken Score(std::span<const float> logits, int32_t token, int n_top);

 private:
  struct Candidate {
    float logit;
    int32_t token;
    // Best first: larger logit, then lower id. A strict weak order, for there are no NaN here.
    bool Precedes(const Candidate& other) const {
      return logit != other.logit ? logit > other.logit : token < other.token;
    }
  };

  void LoadCandidates(std::span<const float> logits);
  void ApplyBiasAndPenalties(const SamplingParams& params, const TokenHistory& history);
  // Removes banned and impossible tokens; returns the id to fall back on when none is left.
  int32_t RemoveExcluded(const SamplingParams& params);
  int32_t Greedy() const;
  void KeepTopK(int top_k);
  void KeepTopP(double top_p, double temperature);
  void KeepMinP(double min_p, double temperature);
  int32_t Draw(double temperature, double uniform);
  int32_t Choose(const SamplingParams& params, uint64_t position);
  float MaxLogit() const;
  void SortById();

  std::vector<Candidate> candidates_;  // one per token that is still possible
  std::vector<double> weights_;        // of candidates_, not normalised: the best has 1
};

}  // namespace thermocline::model
