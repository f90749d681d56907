// Plans that bring the order of their neurons.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "placement/plan_tables.h"
#include "tests/unit/coordinator/engine_fixture.h"

namespace thermocline::coordinator {
namespace {

using ::testing::HasSubstr;

const testing::TinyModelParts& ReluLayers() {
  static const testing::TinyModelParts parts =
      testing::MakeTinyModelParts({.arch = "arcee", .n_layer = 4});
  return parts;
}

// Worker 2 helps worker 1 in the first two layers.
class EngineTablesTest : public EngineTest {
 protected:
  EngineTablesTest() : EngineTest(ReluLayers()) {
    options_.plan.ffn = model::FfnMode::kExact;
    options_.plan_name = "--plan plan.json";
    options_.replan = ReplanMode::kNow;
  }
  // Every layer's neurons from the last to the first.
  model::NeuronOrder Reversed() const {
    std::vector<int32_t> neurons(static_cast<size_t>(model_.config.n_ff));
    std::iota(neurons.rbegin(), neurons.rend(), 0);
    return {std::vector(static_cast<size_t>(model_.config.n_layer), neurons)};
  }
  std::string PlanWith(const placement::PlanTables& tables) const {
    const int64_t n_ff = model_.config.n_ff;
    const auto plan = placement::PlanFromJson(
        Str(R"({"stages":[{"lead":1,"layers":[0,2],"helpers":[{"worker":2,"neurons":[)", n_ff / 2,
            ",", n_ff, R"(]}]},{"lead":3,"layers":[2,4]}]})"));
    EXPECT_TRUE(plan.ok()) << plan.status();
    return placement::PlanFileToJson(*plan, tables);
  }
  void ServeThree(const std::string& plan) {
    options_.expected = {{{1}, "node1"}, {{2}, "node2"}, {{3}, "node3"}};
    options_.plan_json = plan;
    {
      const MutexLock lock(mutex_);
      beats_ = true;
    }
    StartServing();
  }
  std::vector<proto::NeuronTable> TablesAt(uint64_t worker) {
    const MutexLock lock(mutex_);
    return tables_[PeerOf(worker)];
  }
};

TEST_F(EngineTablesTest, WhoSharesALayerGetsItsTableWithTheFirstPlan) {
  ServeThree(PlanWith(placement::TablesOf(Reversed(), model_.config)));
  for (const uint64_t worker : {1, 2}) {
    const auto tables = TablesAt(worker);
    ASSERT_EQ(tables.size(), 2u) << worker;
    EXPECT_EQ(tables[0].epoch, Epoch{1});
    EXPECT_EQ(tables[1].layer, 1);
    EXPECT_EQ(tables[0].neurons, Reversed().layers[0]);
  }
  EXPECT_TRUE(TablesAt(3).empty());
  const auto sink = Submit(Request(5, 20));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 20)));
}

TEST_F(EngineTablesTest, APlanMadeWithAnotherOrderIsServedWithAWarning) {
  ServeThree(PlanWith({.order = 0xab}));
  EXPECT_TRUE(
      observer_.Heard("--plan plan.json: the plan was made with another order of neurons "
                      "(00000000000000ab) than is used here (the model file's)"));
  EXPECT_TRUE(TablesAt(1).empty());
}

TEST_F(EngineTablesTest, ARunningServiceTakesTablesToo) {
  ServeThree(PlanWith({}));
  EXPECT_TRUE(TablesAt(1).empty());
  const auto sink = Submit(Request(5, 40));
  const std::string reversed = PlanWith(placement::TablesOf(Reversed(), model_.config));
  const auto answer = engine_->Replan(reversed);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, ReplanAnswer::kAccepted);
  ASSERT_TRUE(Eventually([&] {
    const ServiceStatus status = engine_->status();
    return status.epoch == 2 && !status.plan.is_changing;
  }));
  ASSERT_EQ(TablesAt(2).size(), 2u);
  EXPECT_EQ(TablesAt(2)[0].neurons, Reversed().layers[0]);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 40)));
}

TEST_F(EngineTablesTest, TheTablesThatServeAlreadyChangeNothing) {
  ServeThree(PlanWith({}));
  const auto answer = engine_->Replan(PlanWith(placement::TablesOf({}, model_.config)));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, ReplanAnswer::kServesAlready);
}

TEST_F(EngineTablesTest, TablesThatBreakARuleAreRefused) {
  ServeThree(PlanWith({}));
  placement::PlanTables tables = placement::TablesOf(Reversed(), model_.config);
  tables.layers[3].pop_back();
  const Status status = engine_->Replan(PlanWith(tables)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("neuron_tables[3] lacks neuron 0"));
  EXPECT_EQ(engine_->status().epoch, 1u);
}

}  // namespace
}  // namespace thermocline::coordinator
