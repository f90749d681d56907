#include "placement/micro_batches.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 4;
constexpr int kNeurons = 512;

class MicroBatchesTest : public ::testing::Test {
 protected:
  // What the planner would choose for `n_streams` on a lead with a helper, this far apart.
  int Chosen(double latency_s, int64_t n_streams) {
    ClusterProfile cluster;
    for (const uint64_t id : {1, 2}) {
      cluster.workers.push_back({.id = {id},
                                 .memory_bytes = kGiB,
                                 .read_bytes_per_s = Figure::Measured(1e8),
                                 .gather_bytes_per_s = Figure::Measured(1e8),
                                 .op_overhead_s = Figure::Measured(0)});
      cluster.links.push_back({.from = {id},
                               .to = {3 - id},
                               .latency_s = Figure::Measured(latency_s),
                               .bytes_per_s = Figure::Measured(1e15),
                               .message_s = Figure::Measured(0)});
    }
    PlannerOptions options{.n_streams = n_streams};
    options.request.n_ctx = 64;
    options.request.n_parallel = 1;
    options.request.max_step_tokens = 16;
    Plan plan;
    plan.stages = {{.lead = {1},
                    .layers = {0, kLayers},
                    .helpers = {{.worker = {2}, .neurons = {kLayers, helped_}}}}};
    if (helped_.empty()) plan.stages[0].helpers.clear();
    plan.stages.front().layers.has_embed = plan.stages.back().layers.has_head = true;
    const auto completed =
        CompletePlan(std::move(plan), model_.config, model_.weights, cluster, options.request);
    EXPECT_TRUE(completed.ok()) << completed.status();
    const std::vector<NeuronHeat> heats(kLayers, NeuronHeat::Uniform(kNeurons, 0.25));
    const PlannerInputs inputs{
        .config = model_.config, .weights = model_.weights, .heats = heats, .cluster = cluster};
    BatchCosts costs(inputs, options, PairWires::Of(*completed));
    const auto chosen = ChooseMicroBatches(*completed, costs);
    EXPECT_TRUE(chosen.ok()) << chosen.status();
    return chosen.ok() ? *chosen : 0;
  }

  const TinyModelParts model_ =
      MakeTinyModelParts({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons});
  NeuronRange helped_ = {kNeurons / 2, kNeurons};
};

TEST_F(MicroBatchesTest, ALinkWithoutLatencyHidesNothing) { EXPECT_EQ(Chosen(0, 8), 1); }

// All streams wait for the same trips, in one batch or in several.
TEST_F(MicroBatchesTest, BesideAVerySlowLinkComputingIsNothing) { EXPECT_EQ(Chosen(1, 8), 1); }

TEST_F(MicroBatchesTest, OneStreamIsOneBatch) { EXPECT_EQ(Chosen(1e-3, 1), 1); }

// Half the streams have fewer active neurons than all, and a layer's take both workers about as
// long as the way.
TEST_F(MicroBatchesTest, AWaitAsLongAsABatchIsHiddenByAnother) { EXPECT_EQ(Chosen(1e-3, 8), 2); }

TEST_F(MicroBatchesTest, AStageWithoutHelpersHasOne) {
  helped_ = {0, 0};
  EXPECT_EQ(Chosen(1, 8), 1);
}

}  // namespace
}  // namespace thermocline::placement
