#include "coordinator/replan_rule.h"

#include <gtest/gtest.h>

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

TEST(ReplanRule, OnlyWhatAWorkerLacksIsRead) {
  const Plan now{.stages = {Stage(1, 0, 5), Stage(2, 5, 10)}};
  EXPECT_EQ(BytesToRead(now, now, kNeurons), 0u);
  EXPECT_EQ(BytesToRead(now, {.stages = {Stage(1, 0, 7), Stage(2, 7, 10)}}, kNeurons), 6000u);
  EXPECT_EQ(BytesToRead(now, {.stages = {Stage(3, 0, 10)}}, kNeurons), 30000u);
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
  EXPECT_EQ(BytesToRead(now, next, kNeurons), 2000u);
  // Who helped and leads now lacks the neurons of the other and what is not of neurons.
  EXPECT_EQ(BytesToRead(now, {.stages = {Stage(2, 0, 10)}}, kNeurons), 10000u + 12000u);
}

}  // namespace
}  // namespace thermocline::coordinator
