#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/rng.h"

namespace thermocline::model {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// NaN -> -inf, +inf -> the largest float.
float Sanitized(float logit) {
  if (std::isnan(logit)) return kImpossible;
  return std::min(logit, std::numeric_limits<float>::max());
}

// exp((logit - max) / temperature): 1 for the best, in double so that sums over the vocabulary keep
// 2^-52 * n_vocab of relative precision.
double Weight(float logit, float max, double temperature) {
  return std::exp((static_cast<double>(logit) - max) / temperature);
}

// Whether the token is the row's largest logit and nothing else is wanted.
bool IsPlainArgmax(const SamplingParams& params) {
  return params.temperature == 0 && params.n_logprobs < 0 && params.logit_bias.empty() &&
         params.banned_ids.empty() && !params.has_penalties();
}

// The first of the largest logits; 0 when no token is possible.
int32_t Argmax(std::span<const float> logits) {
  float best = kImpossible;
  int32_t token = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = Sanitized(logits[i]);
    if (logit > best) {
      best = logit;
      token = static_cast<int32_t>(i);
    }
  }
  return token;
}

}  // namespace

void Sampler::LoadCandidates(std::span<const float> logits) {
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_[i] = {Sanitized(logits[i]), static_cast<int32_t>(i)};
  }
}

// Needs candidates_[i].token == i.
void Sampler::ApplyBiasAndPenalties(const SamplingParams& params, const TokenHistory& history) {
  const auto at = [&](int32_t token) -> float* {
    const bool known = token >= 0 && static_cast<size_t>(token) < candidates_.size();
    return known ? &candidates_[token].logit : nullptr;
  };
  for (const auto& [token, bias] : params.logit_bias) {
    if (float* logit = at(token)) *logit += bias;
  }
  const auto repeat = [&](int32_t token) {
    float* logit = at(token);
    if (!logit) return;
    *logit = *logit > 0 ? *logit / params.repetition_penalty : *logit * params.repetition_penalty;
  };
  if (params.repetition_penalty != 1.0f) {
    for (const auto& [token, count] : history.prompt_counts) {
      if (count > 0) repeat(token);
    }
    for (const auto& [token, count] : history.generated_counts) {
      const auto in_prompt = history.prompt_counts.find(token);
      const bool done = in_prompt != history.prompt_counts.end() && in_prompt->second > 0;
      if (count > 0 && !done) repeat(token);
    }
  }
  if (params.frequency_penalty == 0 && params.presence_penalty == 0) return;
  for (const auto& [token, count] : history.generated_counts) {
    float* logit = at(token);
    if (!logit || count <= 0) continue;
    *logit -= params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
  }
}

// Needs candidates_[i].token == i.
int32_t Sampler::RemoveExcluded(const SamplingParams& params) {
  constexpr int32_t kBanned = -1;
  for (const int32_t id : params.banned_ids) {
    if (id >= 0 && static_cast<size_t>(id) < candidates_.size()) candidates_[id].token = kBanned;
  }
  const auto allowed = std::find_if(candidates_.begin(), candidates_.end(),
                                    [](const Candidate& c) { return c.token != kBanned; });
  const int32_t fallback = allowed == candidates_.end() ? 0 : allowed->token;
  std::erase_if(candidates_,
                [](const Candidate& c) { return c.token == kBanned || !(c.logit > kImpossible); });
  // A penalty or bias can overflow the largest float.
  for (Candidate& c : candidates_) c.logit = Sanitized(c.logit);
  return fallback;
}

float Sampler::MaxLogit() const {
  float max = kImpossible;
  for (const Candidate& c : candidates_) max = std::max(max, c.logit);
  return max;
}

void Sampler::SortById() {
  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.token < b.token; };
  // Without top-k and top-p the order never changed.
  if (std::is_sorted(candidates_.begin(), candidates_.end(), by_id)) return;
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

int32_t Sampler::Greedy() const {
  return std::min_element(candidates_.begin(), candidates_.end(),
                          [](const Candidate& a, const Candidate& b) { return a.Precedes(b); })
      ->token;
}

void Sampler::KeepTopK(int top_k) {
  if (top_k <= 0 || static_cast<size_t>(top_k) >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + top_k, candidates_.end(),
                   [](const Candidate& a, const Candidate& b) { return a.Precedes(b); });
  candidates_.resize(top_k);
}

// A heap yields the best first without sorting a vocabulary of which a few tokens are kept.
void Sampler::KeepTopP(double top_p, double temperature) {
  if (top_p >= 1) return;
  const float max = MaxLogit();
  SortById();  // so that the sum does not depend on the order that nth_element left
  double total = 0;
  for (const Candidate& c : candidates_) total += Weight(c.logit, max, temperature);

  const auto worse = [](const Candidate& a, const Candidate& b) { return b.Precedes(a); };
  std::make_heap(candidates_.begin(), candidates_.end(), worse);
  auto kept = candidates_.end();
  double sum = 0;
  do {  // the best stays whatever top_p is: there must be something to draw
    std::pop_heap(candidates_.begin(), kept, worse);
    --kept;
    sum += Weight(kept->logit, max, temperature);
  } while (kept != candidates_.begin() && sum < top_p * total);
  candidates_.erase(candidates_.begin(), kept);
}

void Sampler::KeepMinP(double min_p, double temperature) {
  if (min_p <= 0) return;
  const float max = MaxLogit();
  const double least = std::min(min_p, 1.0);  // the best has weight 1 and stays
  std::erase_if(candidates_,
                [&](const Candidate& c) { return Weight(c.logit, max, temperature) < least; });
}

int32_t Sampler::Draw(double temperature, double uniform) {
  SortById();
  const float max = MaxLogit();
  weights_.clear();
  double total = 0;
  for (const Candidate& c : candidates_) {
    weights_.push_back(Weight(c.logit, max, temperature));
    total += weights_.back();
  }
  const double target = uniform * total;
  double sum = 0;
  size_t last_possible = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (weights_[i] == 0) continue;
    sum += weights_[i];
    if (sum > target) return candidates_[i].token;
    last_possible = i;
  }
  return candidates_[last_possible].token;
}

int32_t Sampler::Choose(const SamplingParams& params, uint64_t position) {
  if (params.temperature == 0) return Greedy();
  const double temperature = params.temperature;
  KeepTopK(params.top_k);
  KeepTopP(params.top_p, temperature);
  KeepMinP(params.min_p, temperature);
  return Draw(temperature, UniformAt(params.seed, position));
}

SampledToken Sampler::Sample(std::span<const float> logits, const SamplingParams& params,
                             const TokenHistory& history, uint64_t position) {
  if (IsPlainArgmax(params)) return {Argmax(logits), 0, {}};
  LoadCandidates(logits);
  ApplyBiasAndPenalties(params, history);
  const int32_t fallback = RemoveExcluded(params);
  const int32_t token = candidates_.empty() ? fallback : Choose(params, position);
  if (params.n_logprobs < 0) return {token, 0, {}};
  return Score(logits, token, params.n_logprobs);
}

int Sampler::BestNeeded(const SamplingParams& params) {
  const bool looks_at_all =
      params.n_logprobs >= 0 || !params.logit_bias.empty() || params.has_penalties();
  const int n_kept = params.temperature == 0 ? 1 : params.top_k;
  if (looks_at_all || n_kept <= 0) return 0;
  // Those that are banned may be among the best.
  const auto n_banned = static_cast<int64_t>(params.banned_ids.size());
  return static_cast<int>(std::min<int64_t>(n_kept + n_banned, std::numeric_limits<int>::max()));
}

SampledToken Sampler::SampleBest(std::span<const BestLogit> best, const SamplingParams& params,
                                 uint64_t position) {
  const auto is_banned = [&](int32_t token) {
    return std::find(params.banned_ids.begin(), params.banned_ids.end(), token) !=
           params.banned_ids.end();
  };
  candidates_.clear();
  int32_t fallback = -1;
  for (const BestLogit& one : best) {
    if (is_banned(one.token)) continue;
    if (fallback < 0) fallback = one.token;  // of impossible tokens the lowest stands first
    if (one.logit > kImpossible) candidates_.push_back({one.logit, one.token});
  }
  if (candidates_.empty()) return {std::max(fallback, 0), 0, {}};
  return {Choose(params, position), 0, {}};
}

SampledToken Sampler::Score(std::span<const float> logits, int32_t token, int n_top) {
  LoadCandidates(logits);
  const float max = MaxLogit();
  double total = 0;
  for (const Candidate& c : candidates_) total += Weight(c.logit, max, 1.0);
  const double log_total = std::log(total);
  const auto logprob = [&](float logit) {
    if (!(logit > kImpossible)) return kImpossible;
    return static_cast<float>(static_cast<double>(logit) - max - log_total);
  };

  SampledToken scored{token, kImpossible, {}};
  if (token >= 0 && static_cast<size_t>(token) < candidates_.size()) {
    scored.logprob = logprob(candidates_[token].logit);
  }
  const size_t n = std::min(candidates_.size(), static_cast<size_t>(std::max(n_top, 0)));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(n),
                    candidates_.end(),
                    [](const Candidate& a, const Candidate& b) { return a.Precedes(b); });
  for (size_t i = 0; i < n; ++i) {
    scored.top.push_back({candidates_[i].token, logprob(candidates_[i].logit)});
  }
  return scored;
}

}  // namespace thermocline::model
