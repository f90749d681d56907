// How a plan's neurons are told, layer by layer.
#include "tools/plan/neuron_runs.h"

#include <gtest/gtest.h>

namespace thermocline::tools {
namespace {

using placement::NeuronRange;
using placement::PlanForecast;
using placement::PlannedModel;
using placement::StagePlan;

constexpr int64_t kNeurons = 1000;

PlanForecast::Stage ForecastOf(const StagePlan& stage,
                               const std::vector<std::vector<double>>& active) {
  PlanForecast::Stage forecast;
  forecast.members.push_back({.worker = stage.lead});
  for (const auto& helper : stage.helpers) forecast.members.push_back({.worker = helper.worker});
  for (const std::vector<double>& of_layer : active) {
    forecast.layers.emplace_back().active = of_layer;
  }
  return forecast;
}

// Worker 7 leads layers 4 to 8; 3 helps in all but one of them, 5 in two runs of them.
struct SharedStage {
  StagePlan stage{
      .lead = {7},
      .layers = {4, 9},
      .neurons = {{0, 100}, {0, 100}, {0, kNeurons}, {0, 100}, {0, 250}},
      .helpers = {{.worker = {3}, .neurons = {{100, 900}, {100, 900}, {}, {100, 1000}, {250, 500}}},
                  {.worker = {5}, .neurons = {{900, 1000}, {900, 1000}, {}, {7, 7}, {500, 1000}}}}};
  PlanForecast::Stage forecast =
      ForecastOf(stage, {{30, 20, 0}, {50, 90, 10}, {40, 0, 0}, {40, 40, 0}, {10, 6, 4}});
};

TEST(NeuronRunsTest, LayersAlikeBecomeOneAndWithoutNeuronsNobodyIsUnlike) {
  const SharedStage shared;
  const std::vector<NeuronRun> runs = NeuronRunsOf(shared.stage, shared.forecast, kNeurons);
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(runs[0].layers, (model::LayerRange{4, 6}));
  EXPECT_EQ(runs[0].held, (std::vector<NeuronRange>{{0, 100}, {100, 900}, {900, 1000}}));
  EXPECT_EQ(runs[0].active, (std::vector<double>{0.4, 0.55, 0.05}));
  EXPECT_EQ(runs[1].layers, (model::LayerRange{6, 7}));
  EXPECT_EQ(runs[2].held, (std::vector<NeuronRange>{{0, 100}, {100, 1000}, {}}));
  EXPECT_EQ(runs[2].active, (std::vector<double>{0.5, 0.5, 0}));
  EXPECT_EQ(runs[3].layers, (model::LayerRange{8, 9}));
}

TEST(NeuronRunsTest, ALeadAloneHasAllInOneRun) {
  const StagePlan stage{.lead = {1}, .layers = {0, 3}};
  const auto runs = NeuronRunsOf(stage, ForecastOf(stage, {{9}, {8}, {7}}), kNeurons);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].layers, (model::LayerRange{0, 3}));
  EXPECT_EQ(runs[0].held, (std::vector<NeuronRange>{{0, kNeurons}}));
  EXPECT_EQ(runs[0].active, std::vector<double>{1});
}

// Silent layers have no shares.
TEST(NeuronRunsTest, NothingActiveIsNoShare) {
  const StagePlan stage{.lead = {1}, .layers = {0, 1}};
  EXPECT_EQ(NeuronRunsOf(stage, ForecastOf(stage, {{0}}), kNeurons)[0].active,
            std::vector<double>{0});
}

TEST(NeuronRunsTest, TheTextHasATableForWhoSharesAndALineForWhoDoesNot) {
  const SharedStage shared;
  const StagePlan first{.lead = {1}, .layers = {0, 4}}, last{.lead = {2}, .layers = {9, 10}};
  PlannedModel planned;
  planned.plan.stages = {first, shared.stage, last};
  planned.forecast.stages = {ForecastOf(first, {{9}, {9}, {9}, {9}}), shared.forecast,
                             ForecastOf(last, {{9}})};
  EXPECT_EQ(
      NeuronRunsText(planned, kNeurons),
      R"(neurons of each layer, in heat order where there is a profile (share of all, of those expected active)

stage 0, layers 0-3: worker 1 has all

stage 1:

| layers | worker 7 (lead)      | worker 3             | worker 5             |
| ------ | -------------------- | -------------------- | -------------------- |
| 4-5    | 0-99 (10 %, 40 %)    | 100-899 (80 %, 55 %) | 900-999 (10 %, 5 %)  |
| 6      | 0-999 (100 %, 100 %) |                      |                      |
| 7      | 0-99 (10 %, 50 %)    | 100-999 (90 %, 50 %) |                      |
| 8      | 0-249 (25 %, 50 %)   | 250-499 (25 %, 30 %) | 500-999 (50 %, 20 %) |

worker 3 helps in 4 of 5 layers: 4-5, 7-8
worker 5 helps in 3 of 5 layers: 4-5, 8

stage 2, layer 9: worker 2 has all
)");
}

}  // namespace
}  // namespace thermocline::tools
