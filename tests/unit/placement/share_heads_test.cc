// What sharing the heads of attention costs and saves, and when the planner does it.
#include "placement/share_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "placement/cut_reason.h"
#include "placement/forecast.h"
#include "placement/op_time.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 3, kHeads = 8;
constexpr int64_t kNeurons = 256;
constexpr int64_t kContext = 4000;

TinyModelParts MakeModel(int n_head_kv) {
  return MakeTinyModelParts({.arch = "arcee",
                             .n_layer = kLayers,
                             .n_embd = 128,
                             .n_ff = static_cast<int>(kNeurons),
                             .n_head = 16,
                             .n_head_kv = n_head_kv,
                             .n_ctx = 8192});
}

const TinyModelParts& Model() {
  static const TinyModelParts parts = MakeModel(kHeads);
  return parts;
}

const TinyModelParts& ModelOfTwoHeads() {
  static const TinyModelParts parts = MakeModel(2);
  return parts;
}

// Cards of one host that read alike and reach each other as far apart as they are told.
class ShareHeadsTest : public ::testing::Test {
 protected:
  explicit ShareHeadsTest(const TinyModelParts& model = Model()) : model_(model) { Cards(2, 1e-7); }

  void Cards(int n, double latency_s) {
    cluster_ = {};
    for (int i = 0; i < n; ++i) {
      WorkerProfile worker{.id = {static_cast<uint64_t>(i) + 1},
                           .host = "box",
                           .memory_bytes = kGiB,
                           .read_bytes_per_s = Figure::Measured(1e9),
                           .gather_bytes_per_s = Figure::Measured(1e9),
                           .op_overhead_s = Figure::Measured(1e-8)};
      worker.gpu = i;
      worker.nccl_version = "2.28.9";
      worker.gpus.resize(static_cast<size_t>(n));
      for (int from = 0; from < n; ++from) {
        for (int to = 0; to < n; ++to) {
          if (from == to) continue;
          worker.gpus[static_cast<size_t>(from)].peers.push_back(
              {.gpu = to,
               .latency_s = Figure::Assumed(latency_s),
               .bytes_per_s = Figure::Assumed(1e11)});
        }
      }
      cluster_.workers.push_back(std::move(worker));
    }
    for (int from = 1; from <= n; ++from) {
      for (int to = 1; to <= n; ++to) {
        if (from == to) continue;
        cluster_.links.push_back({.from = {static_cast<uint64_t>(from)},
                                  .to = {static_cast<uint64_t>(to)},
                                  .latency_s = Figure::Measured(1e-3),
                                  .bytes_per_s = Figure::Measured(1e9),
                                  .message_s = Figure::Measured(1e-3)});
      }
    }
  }
  PlannerInputs inputs() const {
    return {
        .config = model_.config, .weights = model_.weights, .heats = heats_, .cluster = cluster_};
  }
  // Half of the neurons each, of two.
  Plan Halves(const HeadRange& helpers_heads) const {
    Plan plan;
    plan.stages = {{.lead = {1}, .layers = {0, kLayers, true, true}}};
    plan.stages[0].helpers = {{.worker = {2}, .neurons = {kLayers, {kNeurons / 2, kNeurons}}}};
    plan.stages[0].helpers[0].heads = helpers_heads;
    return Completed(plan);
  }
  // Of three; the helpers have a quarter of the neurons each.
  Plan Three(const HeadRange& second = {}, const HeadRange& third = {}) const {
    Plan plan;
    plan.stages = {{.lead = {1}, .layers = {0, kLayers, true, true}}};
    plan.stages[0].helpers = {
        {.worker = {2}, .neurons = {kLayers, {kNeurons / 2, kNeurons * 3 / 4}}, .heads = second},
        {.worker = {3}, .neurons = {kLayers, {kNeurons * 3 / 4, kNeurons}}, .heads = third}};
    return Completed(plan);
  }
  Plan Completed(const Plan& plan) const {
    auto completed = CompletePlan(plan, model_.config, model_.weights, cluster_, options_.request);
    EXPECT_TRUE(completed.ok()) << completed.status();
    return completed.ok() ? *completed : Plan{};
  }
  // What the last step of planning makes of a plan.
  Plan Shared(const Plan& plan) const {
    const PlannerInputs given = inputs();
    BatchCosts costs(given, options_, PairWires(DType::kF32));
    auto speed = SpeedOf(plan, costs);
    EXPECT_TRUE(speed.ok()) << speed.status();
    if (!speed.ok()) return {};
    PlannedModel planned{plan, {}, *speed};
    ShareHeads(costs, &planned);
    return planned.plan;
  }
  static std::vector<int> HelpersHeads(const Plan& plan) {
    std::vector<int> n_heads;
    for (const HelperPlan& helper : plan.stages[0].helpers) n_heads.push_back(helper.heads.size());
    return n_heads;
  }
  WorkerProfile& Worker(size_t id) { return cluster_.workers[id - 1]; }
  PlanForecast Forecast(const Plan& plan) const {
    auto forecast = ForecastPlan(plan, inputs(), options_);
    EXPECT_TRUE(forecast.ok()) << forecast.status();
    return forecast.ok() ? *forecast : PlanForecast{};
  }
  PlannedModel Make() const {
    auto planned = MakePlan(inputs(), options_);
    EXPECT_TRUE(planned.ok()) << planned.status();
    return planned.ok() ? *planned : PlannedModel{};
  }
  static int n_shared(const Plan& plan) {
    int n = 0;
    for (const StagePlan& stage : plan.stages) {
      for (const HelperPlan& helper : stage.helpers) n += helper.heads.size();
    }
    return n;
  }

  const TinyModelParts& model_;
  const std::vector<NeuronHeat> heats_{kLayers, NeuronHeat::Uniform(kNeurons, 1)};
  ClusterProfile cluster_;
  PlannerOptions options_{.request = {.n_ctx = 8192,
                                      .n_parallel = 1,
                                      .max_step_tokens = 16,
                                      .ffn = model::FfnMode::kDense},
                          .n_context = kContext};
};

TEST_F(ShareHeadsTest, WithoutHeadsAForecastIsWhatItWas) {
  const PlannerInputs given = inputs();
  BatchCosts costs(given, options_, PairWires(DType::kF32));
  const CostModel& model = costs.Of(1);
  const auto attention = model.AttentionOf({{1}, {2}}, 0, std::vector<CostModel::MemberHeads>(2));
  EXPECT_EQ(attention.seconds, model.ProblemOf({{1}, {2}}, {0, 1}).layers[0].fixed_s);
  EXPECT_EQ(attention.busy_s, (std::vector<double>{attention.seconds, 0}));
}

// Keys and values of 4000 positions are nearly all that a step reads.
TEST_F(ShareHeadsTest, HalfOfTheHeadsTakeHalfOfTheTime) {
  const Plan whole = Halves({}), half = Halves({4, 8}), quarter = Halves({6, 8});
  EXPECT_NEAR(Forecast(half).step_s, Forecast(whole).step_s / 2, 0.1 * Forecast(whole).step_s);
  EXPECT_NEAR(Forecast(quarter).step_s, Forecast(whole).step_s * 3 / 4,
              0.1 * Forecast(whole).step_s);
  const PlanForecast forecast = Forecast(half);
  const auto& members = forecast.stages[0].members;
  EXPECT_NEAR(members[0].busy_s, members[1].busy_s, 0.2 * members[0].busy_s);
  EXPECT_EQ(members[1].memory_bytes - Forecast(whole).stages[0].members[1].memory_bytes,
            half.stages[0].helpers[0].kv_bytes + half.stages[0].helpers[0].bytes.sum() -
                whole.stages[0].helpers[0].bytes.sum() +
                OverheadModel(model_.config, model_.weights, options_.request.ffn, 16, 0)
                    .OfHelper(half.stages[0], half.stages[0].helpers[0], Holder::kProcess) -
                OverheadModel(model_.config, model_.weights, options_.request.ffn, 16, 0)
                    .OfHelper(whole.stages[0], whole.stages[0].helpers[0], Holder::kProcess));
}

TEST_F(ShareHeadsTest, ThePlannerSharesThemWhereThatPays) {
  const PlannedModel near = Make();
  ASSERT_EQ(near.plan.stages.size(), 1u);
  EXPECT_EQ(n_shared(near.plan), kHeads / 2) << PlanToJson(near.plan);
  EXPECT_EQ(near.speed.lower_bound_s, 0) << "the bound takes attention to be the leads'";
  options_.policy = SplitPolicy::kFrequencyGreedy;
  EXPECT_EQ(n_shared(Make().plan), 0) << "a baseline is what others do";
  options_.policy = SplitPolicy::kOptimal;
  Cards(2, 1e-2);
  const PlannedModel far = Make();
  EXPECT_EQ(n_shared(far.plan), 0) << "messages take longer than attention";
  EXPECT_GT(far.speed.lower_bound_s, 0);
  EXPECT_LE(far.speed.lower_bound_s, far.speed.value_s);
  Cards(4, 1e-7);
  const PlannedModel four = Make();
  EXPECT_EQ(n_shared(four.plan), kHeads * 3 / 4) << PlanToJson(four.plan);
  EXPECT_LT(four.speed.value_s, near.speed.value_s);
}

TEST_F(ShareHeadsTest, WhoHasNoRoomForThemGetsFewer) {
  const PlannedModel near = Make();
  ASSERT_EQ(near.forecast.stages.size(), 1u);
  const auto& helper = near.forecast.stages[0].members[1];
  const uint64_t kv_bytes = near.plan.stages[0].helpers[0].kv_bytes;
  for (WorkerProfile& worker : cluster_.workers) {
    if (worker.id == helper.worker) worker.memory_bytes = helper.memory_bytes - kv_bytes / 2;
  }
  const PlannedModel fewer = Make();
  const auto& request = options_.request;
  EXPECT_TRUE(ValidatePlan(fewer.plan, model_.config, model_.weights, cluster_, request).ok());
  EXPECT_GT(n_shared(fewer.plan), 0);
  EXPECT_LT(n_shared(fewer.plan), n_shared(near.plan));
}

// The group moves heads only where all of it have some.
TEST_F(ShareHeadsTest, AllOfAGroupGetSome) {
  Cards(3, 1e-7);
  const std::vector<int> all = HelpersHeads(Shared(Three()));
  EXPECT_THAT(all, ElementsAre(Ge(2), Ge(2)));
  const Plan plan = Shared(Three());
  const HelperPlan& helper = plan.stages[0].helpers[1];
  const uint64_t of_a_head = helper.kv_bytes / static_cast<uint64_t>(helper.heads.size());
  const PlanForecast forecast = Forecast(plan);
  for (const PlanForecast::Member& member : forecast.stages[0].members) {
    if (member.worker == WorkerId{3}) {
      Worker(3).memory_bytes = member.memory_bytes - of_a_head * (helper.heads.size() - 1);
    }
  }
  EXPECT_THAT(HelpersHeads(Shared(Three())), ElementsAre(Ge(3), 1)) << "it has room for one";
  Worker(3).memory_bytes -= of_a_head;
  EXPECT_THAT(HelpersHeads(Shared(Three())), ElementsAre(0, 0)) << "it has room for none";
}

TEST_F(ShareHeadsTest, WhoIsInAGroupElsewhereKeepsHeadsFromIt) {
  Cards(3, 1e-7);
  Worker(3).host = "another";
  EXPECT_THAT(HelpersHeads(Shared(Three())), ElementsAre(0, 0));
  Worker(3).nccl_version = "2.27.3";  // so that it is in none
  EXPECT_THAT(HelpersHeads(Shared(Three())), ElementsAre(kHeads / 2, 0));
  Worker(3).gpu = -1;
  EXPECT_THAT(HelpersHeads(Shared(Three())), ElementsAre(kHeads / 2, 0));
}

TEST_F(ShareHeadsTest, RatesThatNobodyKnowsAreAssumed) {
  for (WorkerProfile& worker : cluster_.workers) {
    worker.read_bytes_per_s = Figure::Measured(WorkerSpeed::kAssumedReadBytesPerS);
  }
  Worker(2).read_bytes_per_s = {};
  EXPECT_THAT(HelpersHeads(Shared(Halves({}))), ElementsAre(kHeads / 2));
}

TEST_F(ShareHeadsTest, ReasonsSayWhatIsShared) {
  const Plan plan = Shared(Halves({}));
  EXPECT_THAT(plan.stages[0].reason, HasSubstr("with its attention shared too "));
  EXPECT_THAT(plan.stages[0].helpers[0].reason,
              HasSubstr("in the attention it helps with KV heads 4-7"));
}

// The joined stage shares its heads anew.
TEST_F(ShareHeadsTest, ACutIsWeighedAgainstAStageThatSharesItsHeads) {
  Cards(3, 1e-7);
  const HelperPlan helper{.worker = {2}, .neurons = {2, {kNeurons / 2, kNeurons}}};
  Plan plan;
  plan.stages = {{.lead = {1}, .layers = {0, 2, true}, .helpers = {helper}},
                 {.lead = {3}, .layers = {2, kLayers, false, true}}};
  plan = Shared(Completed(plan));
  ASSERT_TRUE(SharesHeads(plan));
  const PlannerInputs given = inputs();
  BatchCosts costs(given, options_, PairWires(DType::kF32));
  const auto cut = WeighCut(plan, 0, costs);
  ASSERT_TRUE(cut.ok()) << cut.status();

  Plan one;
  one.stages = {{.lead = {1}, .layers = {0, kLayers, true, true}, .helpers = {helper}}};
  one.stages[0].helpers[0].neurons.push_back({});
  one.kv = plan.kv;
  one = Shared(Completed(one));
  ASSERT_TRUE(SharesHeads(one));
  const auto speed = SpeedOf(one, given, options_);
  ASSERT_TRUE(speed.ok() && cut->joined[0].speed.has_value());
  EXPECT_DOUBLE_EQ(cut->joined[0].speed->value_s, speed->value_s);
}

// As workers move them: a group of which one has none leaves them to the hosts' links.
TEST_F(ShareHeadsTest, AForecastCountsTheWayThatHeadsTake) {
  Cards(3, 1e-7);
  const auto attention_s = [&](const Plan& plan) {
    return Forecast(plan).stages[0].layers[0].before_ffn_s;
  };
  const double by_cards = attention_s(Three({4, 6}, {6, 8}));
  const double by_hosts = attention_s(Three({4, 8}));
  EXPECT_GT(by_hosts, by_cards + 2e-3) << "a message of the lead, and a way there and back";
  Worker(3).gpu = -1;  // whose group is of two
  const double of_two = attention_s(Three({4, 8}));
  EXPECT_LT(of_two, by_cards + 1e-3);
}

class FewHeadsTest : public ShareHeadsTest {
 protected:
  FewHeadsTest() : ShareHeadsTest(ModelOfTwoHeads()) {}
};

TEST_F(FewHeadsTest, WhereThereAreMoreCardsNoneAreShared) {
  EXPECT_THAT(HelpersHeads(Shared(Halves({}))), ElementsAre(1));
  Cards(3, 1e-7);
  EXPECT_THAT(HelpersHeads(Shared(Three())), ElementsAre(0, 0));
}

}  // namespace
}  // namespace thermocline::placement
