#include "coordinator/replan_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace thermocline::coordinator {
namespace {

using placement::HelperPlan;
using placement::Plan;
using placement::StagePlan;

constexpr int64_t kNeurons = 100;

// Layers of 3000 bytes.
StagePlan Stage(uint64_t lead, int begin, int end) {
  return {.lead = {lead},
          .layers = {begin, end, begin == 0, end == 10},
          .weights_bytes = uint64_t(end - begin) * 3000};
}

TEST(ReplanRule, GainMustExceedTheErrorOfPredictions) {
  EXPECT_FALSE(IsWorthIt({.now_s = 1.0, .next_s = 0.96}));
  EXPECT_TRUE(IsWorthIt({.now_s = 1.0, .next_s = 0.94}));
  EXPECT_FALSE(IsWorthIt({.now_s = 1.0, .next_s = 1.2}));
  EXPECT_FALSE(IsWorthIt({.now_s = 0, .next_s = 0}));
}

TEST(ReplanRule, WhatIsSavedMustExceedThePause) {
  ReplanCase facts{.now_s = 1.0, .next_s = 0.9, .step_s = 0.1, .read_bytes_per_s = 1e9};
  facts.bytes_to_read = 50'000'000'000;  // 50 s, and 10 % of 600 s are 60 s
  EXPECT_DOUBLE_EQ(PauseOf(facts), 50);
  EXPECT_TRUE(IsWorthIt(facts));
  facts.n_tokens = 200;  // another 20 s
  EXPECT_DOUBLE_EQ(PauseOf(facts), 70);
  EXPECT_FALSE(IsWorthIt(facts));
}

uint64_t Read(const Plan& now, const Plan& next) {
  return BytesToRead({now, {}}, {next, {}}, kNeurons);
}

TEST(ReplanRule, OnlyWhatAWorkerLacksIsRead) {
  const Plan now{.stages = {Stage(1, 0, 5), Stage(2, 5, 10)}};
  EXPECT_EQ(Read(now, now), 0u);
  EXPECT_EQ(Read(now, {.stages = {Stage(1, 0, 7), Stage(2, 7, 10)}}), 6000u);
  EXPECT_EQ(Read(now, {.stages = {Stage(3, 0, 10)}}), 30000u);
}

TEST(ReplanRule, SharedLayersCountTheirNewNeurons) {
  Plan now{.stages = {Stage(1, 0, 10)}};
  now.stages[0].neurons.assign(10, {0, 60});
  now.stages[0].helpers = {
      {.worker = {2}, .neurons = std::vector<model::NeuronRange>(10, {60, 100})}};
  Plan next = now;
  next.stages[0].neurons.assign(10, {0, 50});
  next.stages[0].helpers[0].neurons.assign(10, {50, 100});
  // A tenth of two thirds of each layer.
  EXPECT_EQ(Read(now, next), 2000u);
  // Who helped and leads now lacks the neurons of the other and what is not of neurons.
  EXPECT_EQ(Read(now, {.stages = {Stage(2, 0, 10)}}), 10000u + 12000u);
}

TEST(ReplanRule, NeuronsThatOthersTookThePlacesOfAreReadToo) {
  Plan plan{.stages = {Stage(1, 0, 10)}};
  plan.stages[0].neurons.assign(10, {0, 60});
  plan.stages[0].helpers = {
      {.worker = {2}, .neurons = std::vector<model::NeuronRange>(10, {60, 100})}};
  // The first ten and the last ten change places: each worker lacks ten, of ten layers.
  std::vector<int32_t> turned(kNeurons);
  std::iota(turned.begin(), turned.end(), 0);
  std::swap_ranges(turned.begin(), turned.begin() + 10, turned.end() - 10);
  const model::NeuronOrder files, then{std::vector(10, turned)};
  EXPECT_EQ(BytesToRead({plan, files}, {plan, then}, kNeurons), 2000u);
  EXPECT_EQ(BytesToRead({plan, then}, {plan, files}, kNeurons), 2000u);
  EXPECT_EQ(BytesToRead({plan, then}, {plan, then}, kNeurons), 0u);
  // Whoever has all of a layer lacks none of it in any order.
  const Plan alone{.stages = {Stage(1, 0, 10)}};
  EXPECT_EQ(BytesToRead({alone, files}, {alone, then}, kNeurons), 0u);
}

}  // namespace
}  // namespace thermocline::coordinator
