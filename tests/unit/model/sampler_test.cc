#include "model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "base/rng.h"

namespace thermocline::model {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int32_t Choose(const std::vector<float>& logits, const SamplingParams& params,
               const TokenHistory& history = {}, uint64_t position = 0) {
  return Sampler().Sample(logits, params, history, position).token;
}

SamplingParams Greedy() { return {.temperature = 0}; }

std::vector<float> RandomLogits(uint32_t seed, size_t n) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(rng);
  return logits;
}

std::vector<double> Softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p(logits.size());
  double total = 0;
  for (size_t i = 0; i < p.size(); ++i) total += p[i] = std::exp(logits[i] / temperature);
  for (double& x : p) x /= total;
  return p;
}

// How often each token is chosen over `n` positions.
std::vector<int> Counts(const std::vector<float>& logits, const SamplingParams& params, int n) {
  std::vector<int> counts(logits.size());
  Sampler sampler;
  for (int i = 0; i < n; ++i) ++counts[sampler.Sample(logits, params, {}, i).token];
  return counts;
}

// Pearson's statistic over the tokens with p > 0; the others must not occur.
double ChiSquare(const std::vector<int>& counts, const std::vector<double>& p, int n) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
      continue;
    }
    const double expected = p[i] * n;
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return sum;
}

TEST(Sampler, GreedyTakesTheLargestAndOfTiesTheLowestId) {
  EXPECT_EQ(Choose({1, 3, 2}, Greedy()), 1);
  EXPECT_EQ(Choose({1, 3, 3}, Greedy()), 1);
  EXPECT_EQ(Choose({-5, -5, -5}, Greedy()), 0);
}

TEST(Sampler, BrokenLogitsStillGiveOneToken) {
  EXPECT_EQ(Choose({kNan, 1, kNan}, Greedy()), 1);
  EXPECT_EQ(Choose({0, kInf, kInf}, Greedy()), 1);
  EXPECT_EQ(Choose({0, kInf, 5}, {}), 1);
  EXPECT_EQ(Choose({kNan, kNan}, {}), 0);
  EXPECT_EQ(Choose({-kInf, -kInf, -kInf}, {.banned_ids = {0}}), 1);
  EXPECT_EQ(Choose({1, 2}, {.banned_ids = {0, 1}}), 0);
  EXPECT_EQ(Choose({-kInf, kNan, -3}, {.temperature = 2}), 2);
}

TEST(Sampler, PenaltiesBiasAndBansApplyToGreedyToo) {
  const std::vector<float> logits = {5, 4, -1};
  EXPECT_EQ(Choose(logits, {.temperature = 0, .banned_ids = {0, -3, 99}}), 1);
  EXPECT_EQ(Choose(logits, {.temperature = 0, .logit_bias = {{2, 7}, {99, 100}}}), 2);
  const TokenHistory generated{.generated_counts = {{0, 3}}};
  EXPECT_EQ(Choose(logits, {.temperature = 0, .presence_penalty = 0.9f}, generated), 0);
  EXPECT_EQ(Choose(logits, {.temperature = 0, .presence_penalty = 1.1f}, generated), 1);
  EXPECT_EQ(Choose(logits, {.temperature = 0, .frequency_penalty = 0.3f}, generated), 0);
  EXPECT_EQ(Choose(logits, {.temperature = 0, .frequency_penalty = 0.4f}, generated), 1);
}

TEST(Sampler, PresenceAndFrequencyCountGeneratedTokensOnly) {
  const TokenHistory prompt{.prompt_counts = {{0, 9}}};
  const SamplingParams params{.temperature = 0, .presence_penalty = 2, .frequency_penalty = 2};
  EXPECT_EQ(Choose({5, 4}, params, prompt), 0);
}

TEST(Sampler, RepetitionDividesPositiveAndMultipliesNegativeLogitsOnce) {
  const SamplingParams params{.temperature = 0, .repetition_penalty = 2};
  const TokenHistory both{.prompt_counts = {{0, 1}}, .generated_counts = {{0, 5}}};
  EXPECT_EQ(Choose({8, 3.9f}, params, both), 0);  // 8 / 2 = 4, not 8 / 4
  EXPECT_EQ(Choose({8, 4.1f}, params, both), 1);
  EXPECT_EQ(Choose({-1, -1.9f}, params, both), 1);  // -1 * 2
  EXPECT_EQ(Choose({-1, -2.1f}, params, both), 0);
}

// Degrees of freedom 39; the 99.9th percentile of chi-square is 72.1. The stream is fixed.
TEST(Sampler, DrawsFollowTheSoftmax) {
  constexpr int kDraws = 40'000;
  const std::vector<float> logits = RandomLogits(1, 40);
  for (const float temperature : {0.7f, 1.0f, 1.5f}) {
    const SamplingParams params{.temperature = temperature, .seed = 11};
    const auto counts = Counts(logits, params, kDraws);
    EXPECT_LT(ChiSquare(counts, Softmax(logits, temperature), kDraws), 72.1) << temperature;
  }
}

// What the filters leave, by their definitions on a full sort.
std::set<int32_t> Kept(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) order.resize(std::min<size_t>(order.size(), params.top_k));
  double total = 0;
  for (const int32_t id : order) total += std::exp(logits[id] / params.temperature);
  std::set<int32_t> kept;
  double sum = 0;
  for (const int32_t id : order) {
    if (sum >= params.top_p * total) break;
    sum += std::exp(logits[id] / params.temperature);
    kept.insert(id);
  }
  const double best = std::exp(logits[order[0]] / params.temperature);
  std::erase_if(kept, [&](int32_t id) {
    return std::exp(logits[id] / params.temperature) < params.min_p * best;
  });
  return kept;
}

TEST(Sampler, FiltersLeaveTheRightTokensInTheRightProportion) {
  constexpr int kDraws = 4'000;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 rng(seed);
    std::vector<float> logits = RandomLogits(seed, 30);
    if (seed % 3 == 0) logits[7] = logits[3] = logits[20];  // ties across the cut
    SamplingParams params{.seed = seed};
    params.temperature = 0.5f + 0.25f * static_cast<float>(rng() % 5);
    params.top_k = static_cast<int>(rng() % 12);
    params.top_p = rng() % 3 == 0 ? 1.0f : 0.3f + 0.1f * static_cast<float>(rng() % 7);
    params.min_p = rng() % 2 == 0 ? 0.0f : 0.05f * static_cast<float>(rng() % 6);
    const std::set<int32_t> kept = Kept(logits, params);
    std::vector<float> masked(logits.size(), -kInf);
    for (const int32_t id : kept) masked[id] = logits[id];
    const auto counts = Counts(logits, params, kDraws);
    // 29 degrees of freedom at most: the 99.99th percentile is 67.
    EXPECT_LT(ChiSquare(counts, Softmax(masked, params.temperature), kDraws), 67)
        << "seed " << seed;
  }
}

TEST(Sampler, TopKOfOneTopPOfNothingAndMinPOfOneAreGreedy) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> logits = RandomLogits(seed, 100);
    const int32_t best = Choose(logits, Greedy());
    EXPECT_EQ(Choose(logits, {.top_k = 1, .seed = seed}), best);
    EXPECT_EQ(Choose(logits, {.top_p = 1e-6f, .seed = seed}), best);
    EXPECT_EQ(Choose(logits, {.min_p = 1, .seed = seed}), best);
    EXPECT_EQ(Choose(logits, {.temperature = 1e-30f, .seed = seed}), best);
  }
}

TEST(Sampler, DependsOnSeedAndPositionButNotOnWhatCameBefore) {
  const std::vector<float> logits = RandomLogits(5, 200);
  const SamplingParams params{.top_p = 0.9f, .top_k = 50, .seed = 3};
  Sampler warm;
  std::vector<int32_t> forwards;
  for (uint64_t i = 0; i < 100; ++i) {
    forwards.push_back(warm.Sample(logits, params, {}, i).token);
  }
  for (uint64_t i = 100; i-- > 0;) {
    warm.Sample(RandomLogits(static_cast<uint32_t>(i), 77), {}, {}, i);
    EXPECT_EQ(warm.Sample(logits, params, {}, i).token, forwards[i]) << i;
  }
  EXPECT_GT(std::set<int32_t>(forwards.begin(), forwards.end()).size(), 10u);
}

TEST(Sampler, TheDrawIsTheInverseOfTheDistributionFunctionById) {
  const std::vector<float> logits(4, 0.0f);
  for (uint64_t position = 0; position < 200; ++position) {
    const auto expected = static_cast<int32_t>(UniformAt(9, position) * 4);
    EXPECT_EQ(Choose(logits, {.seed = 9}, {}, position), expected);
  }
}

// Such parameters are refused at the wire; the sampler must not read what is not there even so.
TEST(Sampler, ParametersOutOfRangeLeaveTheBestToken) {
  const std::vector<float> logits = {1, 4, 2};
  EXPECT_EQ(Choose(logits, {.top_p = 0}), 1);
  EXPECT_EQ(Choose(logits, {.top_p = -1}), 1);
  EXPECT_EQ(Choose(logits, {.min_p = 2}), 1);
  EXPECT_EQ(Choose(logits, {.top_p = 0, .top_k = 1, .min_p = 9}), 1);
}

TEST(Sampler, LogprobsAreThoseOfTheRawLogits) {
  const std::vector<float> logits = {1, 3, 2, 3};
  const auto p = Softmax(logits, 1);
  const SamplingParams params{.temperature = 0, .n_logprobs = 3, .banned_ids = {1, 3}};
  const SampledToken sampled = Sampler().Sample(logits, params, {}, 0);
  EXPECT_EQ(sampled.token, 2);
  EXPECT_NEAR(sampled.logprob, std::log(p[2]), 1e-6);
  ASSERT_EQ(sampled.top.size(), 3u);
  EXPECT_EQ(sampled.top[0].token, 1);
  EXPECT_EQ(sampled.top[1].token, 3);
  EXPECT_EQ(sampled.top[2].token, 2);
  EXPECT_NEAR(sampled.top[0].logprob, std::log(p[1]), 1e-6);
}

TEST(Sampler, ScoreOfAGivenTokenSumsToOneOverTheVocabulary) {
  const std::vector<float> logits = RandomLogits(8, 500);
  Sampler sampler;
  double total = 0;
  for (int32_t id = 0; id < 500; ++id) total += std::exp(sampler.Score(logits, id, 0).logprob);
  EXPECT_NEAR(total, 1, 1e-5);
  EXPECT_EQ(sampler.Score(logits, -1, 0).logprob, -kInf);
  EXPECT_EQ(sampler.Score(logits, 500, 0).logprob, -kInf);
  EXPECT_EQ(sampler.Score(logits, 0, 1000).top.size(), 500u);
  EXPECT_EQ(sampler.Score(std::vector<float>{kNan, 0}, 0, 2).logprob, -kInf);
  EXPECT_EQ(sampler.Score(std::vector<float>{kNan, 0}, 1, 2).logprob, 0);
  EXPECT_EQ(sampler.Score(std::vector<float>{kNan, kNan}, 1, 1).logprob, -kInf);
}

TEST(SamplingParams, DefaultsAreValid) {
  EXPECT_TRUE(SamplingParams{}.Validate().ok());
  EXPECT_TRUE((SamplingParams{.temperature = 5, .top_k = -1}.Validate().ok()));
}

TEST(SamplingParams, EachRangeIsCheckedAndNamed) {
  const struct {
    SamplingParams params;
    const char* name;
  } kBad[] = {
      {{.temperature = -0.1f}, "temperature"},
      {{.temperature = kNan}, "temperature"},
      {{.temperature = kInf}, "temperature"},
      {{.top_p = 0}, "top_p"},
      {{.top_p = 1.1f}, "top_p"},
      {{.top_p = kNan}, "top_p"},
      {{.min_p = -0.1f}, "min_p"},
      {{.min_p = 1.1f}, "min_p"},
      {{.presence_penalty = 2.1f}, "presence_penalty"},
      {{.frequency_penalty = -2.1f}, "frequency_penalty"},
      {{.repetition_penalty = 0}, "repetition_penalty"},
      {{.repetition_penalty = kNan}, "repetition_penalty"},
      {{.n_logprobs = 21}, "logprobs"},
      {{.n_prompt_logprobs = -2}, "prompt_logprobs"},
      {{.logit_bias = {{1, 101}}}, "logit_bias"},
      {{.logit_bias = {{-1, 0}}}, "logit_bias"},
      {{.logit_bias = std::vector<std::pair<int32_t, float>>(1025)}, "logit_bias"},
      {{.banned_ids = {-1}}, "banned_ids"},
  };
  for (const auto& [params, name] : kBad) {
    const Status status = params.Validate();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(status.message(), HasSubstr(name));
  }
}

TEST(Sampler, PlainGreedyChoosesAsGreedyWithMoreToDo) {
  SamplingParams scored = Greedy();
  scored.n_logprobs = 0;  // takes the long way
  for (uint32_t seed = 0; seed < 50; ++seed) {
    auto logits = RandomLogits(seed, 200);
    if (seed % 3 == 0) logits[seed] = kNan;
    if (seed % 5 == 0) logits[7] = logits[90] = kInf;
    EXPECT_EQ(Choose(logits, Greedy()), Choose(logits, scored)) << seed;
  }
  for (const float same : {1.0f, -kInf, kNan, kInf}) {
    EXPECT_EQ(Choose(std::vector<float>(5, same), Greedy()), 0);
  }
}

// The k best as a device finds them.
std::vector<BestLogit> BestOf(const std::vector<float>& logits, size_t k) {
  std::vector<BestLogit> best;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = std::isnan(logits[i]) ? -kInf : logits[i];
    best.push_back({std::min(logit, std::numeric_limits<float>::max()), static_cast<int32_t>(i)});
  }
  std::stable_sort(best.begin(), best.end(),
                   [](const BestLogit& a, const BestLogit& b) { return a.logit > b.logit; });
  best.resize(k);
  return best;
}

TEST(Sampler, FromTheBestLogitsItChoosesAsFromAll) {
  Sampler sampler;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    auto logits = RandomLogits(seed, 100);
    for (size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);  // ties
    if (seed % 3 == 0) logits[seed % 100] = kNan;
    if (seed % 5 == 0) logits[7] = logits[90] = kInf;
    if (seed % 7 == 0) std::fill(logits.begin() + 3, logits.end(), -kInf);
    if (seed % 21 == 0) std::fill(logits.begin(), logits.end(), kNan);
    SamplingParams params;
    params.temperature = seed % 4 == 0 ? 0.0f : 0.8f;
    params.top_k = static_cast<int>(1 + seed % 20);
    params.top_p = seed % 2 == 0 ? 1.0f : 0.7f;
    params.min_p = seed % 11 == 0 ? 0.05f : 0.0f;
    params.seed = seed;
    if (seed % 2 == 1) params.banned_ids = {BestOf(logits, 1)[0].token, 3, 1000};
    const int n_best = Sampler::BestNeeded(params);
    ASSERT_GT(n_best, 0);
    const auto best = BestOf(logits, static_cast<size_t>(n_best));
    EXPECT_EQ(sampler.SampleBest(best, params, seed).token, Choose(logits, params, {}, seed))
        << seed;
  }
}

TEST(Sampler, WhatTheBestLogitsDoNotShowNeedsAll) {
  EXPECT_EQ(Sampler::BestNeeded(Greedy()), 1);
  EXPECT_EQ(Sampler::BestNeeded({.temperature = 1, .top_k = 40, .banned_ids = {1, 2}}), 42);
  for (const SamplingParams& params :
       std::vector<SamplingParams>{{.temperature = 1},
                                   {.temperature = 0, .n_logprobs = 0},
                                   {.temperature = 0, .logit_bias = {{1, 2.0f}}},
                                   {.temperature = 0, .presence_penalty = 1},
                                   {.temperature = 1, .top_k = 4, .repetition_penalty = 1.1f}}) {
    EXPECT_EQ(Sampler::BestNeeded(params), 0);
  }
}

}  // namespace
}  // namespace thermocline::model
