#include "coordinator/replan_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace thermocline::coordinator {
namespace {

using placement::HelperPlan;
using placement::Plan;
using placement::StagePlan;

constexpr int kNeurons = 100, kHeads = 4;

// Of the weights of attention three quarters go with heads.
model::ModelConfig Config() {
  model::ModelConfig config;
  config.n_ff = kNeurons;
  config.n_head = config.n_head_kv = kHeads;
  config.head_dim = 8;
  return config;
}

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
  return BytesToRead({now, {}}, {next, {}}, Config());
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

TEST(ReplanRule, SharedLayersCountTheirNewHeads) {
  Plan whole{.stages = {Stage(1, 0, 10)}};
  whole.stages[0].neurons.assign(10, {0, 60});
  whole.stages[0].helpers = {
      {.worker = {2}, .neurons = std::vector<model::NeuronRange>(10, {60, 100})}};
  const auto sharing = [&](const model::HeadRange& lead, const model::HeadRange& helper) {
    Plan plan = whole;
    plan.stages[0].heads = lead;
    plan.stages[0].helpers[0].heads = helper;
    return plan;
  };
  // Half of three quarters of a third of each layer, of a worker that had none of them.
  EXPECT_EQ(Read(whole, sharing({0, 2}, {2, 4})), 3750u);
  EXPECT_EQ(Read(sharing({0, 2}, {2, 4}), sharing({0, 2}, {2, 4})), 0u);
  // One head of four moves, one way or the other.
  EXPECT_EQ(Read(sharing({0, 2}, {2, 4}), sharing({0, 1}, {1, 4})), 1875u);
  EXPECT_EQ(Read(sharing({0, 2}, {2, 4}), sharing({0, 3}, {3, 4})), 1875u);
  // They come back to the lead.
  EXPECT_EQ(Read(sharing({0, 2}, {2, 4}), whole), 3750u);
  // Who helped with half of them and leads now lacks those of the other, and what is of no head.
  EXPECT_EQ(Read(sharing({0, 2}, {2, 4}), {.stages = {Stage(2, 0, 10)}}), 3750u + 2500u + 12000u);
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
  EXPECT_EQ(BytesToRead({plan, files}, {plan, then}, Config()), 2000u);
  EXPECT_EQ(BytesToRead({plan, then}, {plan, files}, Config()), 2000u);
  EXPECT_EQ(BytesToRead({plan, then}, {plan, then}, Config()), 0u);
  // Whoever has all of a layer lacks none of it in any order.
  const Plan alone{.stages = {Stage(1, 0, 10)}};
  EXPECT_EQ(BytesToRead({alone, files}, {alone, then}, Config()), 0u);
}

}  // namespace
}  // namespace thermocline::coordinator
