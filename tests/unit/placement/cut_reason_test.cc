// What a cut between stages is said to save and to cost, against plans without it.
#include "placement/cut_reason.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"
#include "base/units.h"
#include "placement/forecast.h"
#include "placement/micro_batches.h"
#include "placement/reason_text.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using ::testing::Not;
using testing::TinyModelParts;

constexpr int kLayers = 6;
constexpr int kNeurons = 512;
constexpr double kHopS = 1e-3, kBytesPerS = 1e8;

const TinyModelParts& Arcee() {
  static const TinyModelParts parts =
      MakeTinyModelParts({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons});
  return parts;
}

class CutReasonTest : public ::testing::Test {
 protected:
  CutReasonTest() {
    for (uint64_t id = 1; id <= 3; ++id) {
      const Figure rate = Figure::Measured(1e7 * (1 - 0.1 * static_cast<double>(id)));
      cluster_.workers.push_back({.id = {id},
                                  .memory_bytes = kGiB,
                                  .read_bytes_per_s = rate,
                                  .gather_bytes_per_s = rate,
                                  .op_overhead_s = Figure::Measured(0)});
      for (uint64_t to = 1; to <= 3; ++to) {
        if (to == id) continue;
        cluster_.links.push_back({.from = {id},
                                  .to = {to},
                                  .latency_s = Figure::Measured(kHopS),
                                  .bytes_per_s = Figure::Measured(kBytesPerS),
                                  .message_s = Figure::Measured(0)});
      }
    }
    options_.request = {.n_ctx = 64, .n_parallel = 1, .max_step_tokens = 16};
    options_.request.ffn = model::FfnMode::kExact;
  }

  PlannerInputs inputs() const {
    return {
        .config = model_.config, .weights = model_.weights, .heats = heats_, .cluster = cluster_};
  }
  Result<Plan> TryToComplete(std::vector<StagePlan> stages) const {
    Plan plan{.stages = std::move(stages)};
    plan.stages.front().layers.has_embed = plan.stages.back().layers.has_head = true;
    plan.kv.n_pages = 4;
    return CompletePlan(plan, model_.config, model_.weights, cluster_, options_.request);
  }
  Plan Complete(std::vector<StagePlan> stages) const {
    auto completed = TryToComplete(std::move(stages));
    EXPECT_TRUE(completed.ok()) << completed.status();
    return completed.ok() ? *completed : Plan{};
  }
  Plan Alone(WorkerId lead) const { return Complete({{.lead = lead, .layers = {0, kLayers}}}); }
  // The first `n` layers on worker 1, the others on worker 2.
  Plan CutAt(int n) const {
    return Complete({{.lead = {1}, .layers = {0, n}}, {.lead = {2}, .layers = {n, kLayers}}});
  }
  // With as many micro-batches as the planner would have.
  PlanSpeed Speed(Plan plan) const {
    const PlannerInputs given = inputs();
    BatchCosts costs(given, options_, PairWires::Of(plan));
    const auto micro_batches = ChooseMicroBatches(plan, costs);
    EXPECT_TRUE(micro_batches.ok()) << micro_batches.status();
    plan.micro_batches = micro_batches.ok() ? *micro_batches : 1;
    const auto speed = SpeedOf(plan, costs);
    EXPECT_TRUE(speed.ok()) << speed.status();
    return speed.ok() ? *speed : PlanSpeed{};
  }
  CutWorth Weigh(const Plan& plan, size_t i = 0) const {
    const PlannerInputs given = inputs();
    BatchCosts costs(given, options_, PairWires::Of(plan));
    auto cut = WeighCut(plan, i, costs);
    EXPECT_TRUE(cut.ok()) << cut.status();
    return cut.ok() ? *std::move(cut) : CutWorth{};
  }
  uint64_t Needs(const Plan& plan, size_t stage, size_t member) const {
    const auto forecast = ForecastPlan(plan, inputs(), options_);
    EXPECT_TRUE(forecast.ok()) << forecast.status();
    return forecast.ok() ? forecast->stages[stage].members[member].memory_bytes : 0;
  }
  static void ExpectSame(const std::optional<PlanSpeed>& speed, const PlanSpeed& wanted) {
    ASSERT_TRUE(speed.has_value());
    EXPECT_DOUBLE_EQ(speed->one_tokens_per_s, wanted.one_tokens_per_s);
    EXPECT_DOUBLE_EQ(speed->all_tokens_per_s, wanted.all_tokens_per_s);
    EXPECT_DOUBLE_EQ(speed->value_s, wanted.value_s);
  }

  const TinyModelParts& model_ = Arcee();
  const std::vector<NeuronHeat> heats_{kLayers, NeuronHeat::Uniform(kNeurons, 0.25)};
  ClusterProfile cluster_;
  // So much context that what a step takes goes with its sequences: a pipeline gains by that.
  PlannerOptions options_{.n_context = 4000};
};

TEST_F(CutReasonTest, IsTheDifferenceToThePlansWithoutTheCut) {
  options_.n_streams = 4;
  options_.latency_weight = 0.5;
  const Plan plan = CutAt(4);
  const CutWorth cut = Weigh(plan);
  ExpectSame(cut.joined[0].speed, Speed(Alone({1})));
  ExpectSame(cut.joined[1].speed, Speed(Alone({2})));
  EXPECT_EQ(cut.best(), &cut.joined[0]);  // which reads faster
  EXPECT_EQ(cut.n_layers, kLayers);
  EXPECT_EQ(cut.n_sequences, 2);  // of four streams in two batches
  EXPECT_EQ(cut.hop_bytes, sizeof(float) * 2 * static_cast<uint64_t>(model_.config.n_embd));
  EXPECT_DOUBLE_EQ(cut.hop_s, kHopS + static_cast<double>(cut.hop_bytes) / kBytesPerS);

  const PlanSpeed speed = Speed(plan), alone = Speed(Alone({1}));
  const double round_s = 4 / alone.all_tokens_per_s - 4 / speed.all_tokens_per_s;
  const double one_s = 1 / speed.one_tokens_per_s - 1 / alone.one_tokens_per_s;
  ASSERT_GT(round_s, 0);
  ASSERT_GT(one_s, kHopS);
  EXPECT_EQ(
      CutText(cut, speed),
      Str("the cut after it saves ", MillisecondsText(round_s), " of a round of 4 streams, costs ",
          MillisecondsText(one_s), " of a token of one, net of the ", MillisecondsText(cut.hop_s),
          " that its hop takes (", FormatBytes(cut.hop_bytes),
          " for a step of 2 sequences), against one stage of both led by worker 1"));
}

TEST_F(CutReasonTest, OneStreamHasNoRounds) {
  const Plan plan = CutAt(4);
  const double costs_s = 1 / Speed(plan).one_tokens_per_s - 1 / Speed(Alone({1})).one_tokens_per_s;
  EXPECT_THAT(CutText(Weigh(plan), Speed(plan)),
              HasSubstr(Str("the cut after it costs ", MillisecondsText(costs_s),
                            " of a token, net of the ")));
}

TEST_F(CutReasonTest, HelpersKeepTheirNeuronsAndOtherStagesTheirLayers) {
  options_.n_streams = 3;
  options_.latency_weight = 0.5;
  constexpr NeuronRange kHelped{kNeurons / 2, kNeurons};
  const HelperPlan helper{.worker = {3}, .neurons = {2, kHelped}};
  const Plan plan = Complete({{.lead = {1}, .layers = {0, 4}},
                              {.lead = {2}, .layers = {4, kLayers}, .helpers = {helper}}});
  const auto joined = [&](WorkerId lead) {
    HelperPlan in_last = helper;
    in_last.neurons.insert(in_last.neurons.begin(), 4, NeuronRange{});
    return Complete({{.lead = lead, .layers = {0, kLayers}, .helpers = {in_last}}});
  };
  const CutWorth cut = Weigh(plan);
  ExpectSame(cut.joined[0].speed, Speed(joined({1})));
  ExpectSame(cut.joined[1].speed, Speed(joined({2})));
  EXPECT_THAT(CutText(cut, Speed(plan)), HasSubstr(" led by worker 1, helpers as they are"));

  const Plan three = Complete({{.lead = {1}, .layers = {0, 1}},
                               {.lead = {2}, .layers = {1, 3}},
                               {.lead = {3}, .layers = {3, kLayers}}});
  const Plan two =
      Complete({{.lead = {1}, .layers = {0, 1}}, {.lead = {3}, .layers = {1, kLayers}}});
  ExpectSame(Weigh(three, 1).joined[1].speed, Speed(two));
}

// The oracle is what CompletePlan refuses, layer by layer, and what a forecast counts.
TEST_F(CutReasonTest, ForMemoryItSaysHowManyLayersTheLeadsHaveRoomFor) {
  const Plan plan = CutAt(3);
  const uint64_t first = Needs(plan, 0, 0), last = Needs(plan, 1, 0);
  const uint64_t all = Needs(Alone({1}), 0, 0);
  for (const uint64_t more : {uint64_t{0}, (all - first) / 2}) {
    for (WorkerProfile& worker : cluster_.workers) worker.memory_bytes = kGiB;
    cluster_.workers[0].memory_bytes = first + more;
    cluster_.workers[1].memory_bytes = last;
    const CutWorth cut = Weigh(plan);
    const auto fits = [&](int n, bool is_first) {
      StagePlan with{.lead = {is_first ? 1u : 2u}, .layers = {0, n}};
      StagePlan rest{.lead = {3}, .layers = {n, kLayers}};
      if (!is_first) {
        with.layers = {kLayers - n, kLayers};
        rest.layers = {0, kLayers - n};
        std::swap(with, rest);
      }
      return TryToComplete({with, rest}).ok();
    };
    for (const bool is_first : {true, false}) {
      const JoinedStage& joined = cut.joined[is_first ? 0 : 1];
      EXPECT_FALSE(joined.has_room());
      EXPECT_FALSE(joined.speed.has_value());
      EXPECT_EQ(joined.needed_bytes, all);
      EXPECT_TRUE(fits(joined.n_room, is_first)) << more << " " << is_first;
      EXPECT_FALSE(fits(joined.n_room + 1, is_first)) << more << " " << is_first;
    }
    EXPECT_EQ(cut.best(), nullptr);
    const auto room = [&](int worker, const JoinedStage& joined) {
      return Str("worker ", worker, " has room for ", joined.n_room,
                 " of both stages' 6 layers (all take ", FormatBytes(all), ", ",
                 FormatBytes(all - joined.memory_bytes), " more than it may use)");
    };
    EXPECT_EQ(
        CutText(cut, Speed(plan)),
        Str("the cut after it is for memory, with KV for 64 tokens, and costs the ",
            MillisecondsText(cut.hop_s), " that its hop takes (", FormatBytes(cut.hop_bytes),
            " for a step of 1 sequence): ", room(1, cut.joined[0]), "; ", room(2, cut.joined[1])));
  }
}

TEST_F(CutReasonTest, OneLeadWithRoomIsComparedAndTheOtherToldOf) {
  const Plan plan = CutAt(3);
  cluster_.workers[1].memory_bytes = Needs(plan, 1, 0);
  const CutWorth cut = Weigh(plan);
  EXPECT_EQ(cut.best(), &cut.joined[0]);
  EXPECT_THAT(CutText(cut, Speed(plan)),
              HasSubstr(Str("led by worker 1; worker 2 has room for ", cut.joined[1].n_room,
                            " of both stages' 6 layers (")));
}

// It keeps a table for each layer of its stage.
TEST_F(CutReasonTest, AHelperMayLackRoomForMoreLayers) {
  const HelperPlan helper{.worker = {3}, .neurons = {2, {kNeurons / 2, kNeurons}}};
  const Plan plan = Complete({{.lead = {1}, .layers = {0, 4}},
                              {.lead = {2}, .layers = {4, kLayers}, .helpers = {helper}}});
  cluster_.workers[2].memory_bytes = Needs(plan, 1, 1);
  const CutWorth cut = Weigh(plan);
  EXPECT_EQ(cut.best(), nullptr);
  EXPECT_TRUE(cut.joined[0].has_room());
  EXPECT_THAT(CutText(cut, Speed(plan)),
              EndsWith(": either lead has room for all layers, but their helpers lack it"));
}

TEST_F(CutReasonTest, ThePlannerTellsItOfEveryStageButTheLast) {
  options_.n_streams = 6;
  options_.latency_weight = 0;
  options_.policy = SplitPolicy::kPipelineOnly;
  const auto planned = MakePlan(inputs(), options_);
  ASSERT_TRUE(planned.ok()) << planned.status();
  const std::vector<StagePlan>& stages = planned->plan.stages;
  ASSERT_GE(stages.size(), 2u);
  for (size_t i = 0; i + 1 < stages.size(); ++i) {
    EXPECT_THAT(stages[i].reason, HasSubstr("; the cut after it saves "));
    EXPECT_LE(stages[i].reason.size(), kMaxReasonBytes);
  }
  EXPECT_THAT(stages.back().reason, Not(HasSubstr("the cut after it")));
}

}  // namespace
}  // namespace thermocline::placement
