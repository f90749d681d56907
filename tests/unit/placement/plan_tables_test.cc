#include "placement/plan_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/str.h"

namespace thermocline::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

model::ModelConfig ConfigOf(int n_layer, int64_t n_ff) {
  model::ModelConfig config;
  config.n_layer = n_layer;
  config.n_ff = n_ff;
  return config;
}

// A plan of two layers that two workers share, with more fields.
std::string JsonWith(const std::string& fields) {
  return R"({"stages":[{"lead":1,"layers":[0,2],"helpers":[{"worker":2,"neurons":[3,6]}]}])" +
         fields + "}";
}

std::string ErrorOf(const std::string& fields) {
  return PlanFileFromJson(JsonWith(fields)).status().message();
}

// What is wrong with the tables for a model of two layers with six neurons each.
std::string RuleOf(const std::string& tables) {
  const auto file = PlanFileFromJson(JsonWith(Str(R"(,"neuron_tables":)", tables)));
  if (!file.ok()) return file.status().message();
  return OrderIn(file->tables, ConfigOf(2, 6)).status().message();
}

model::NeuronOrder Shuffled(int n_layer, int32_t n_ff, uint32_t seed) {
  std::mt19937 random(seed);
  model::NeuronOrder order;
  for (int layer = 0; layer < n_layer; ++layer) {
    auto& neurons = order.layers.emplace_back(static_cast<size_t>(n_ff));
    std::iota(neurons.begin(), neurons.end(), 0);
    const auto half = neurons.begin() + n_ff / 2;  // runs in the other half
    std::shuffle(neurons.begin(), half, random);
  }
  return order;
}

TEST(PlanTables, APlanReadsBackWithItsTables) {
  const auto plan = PlanFromJson(JsonWith(""));
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const uint32_t seed : {1u, 2u, 3u}) {
    const model::NeuronOrder order = Shuffled(3, 40, seed);
    const PlanTables tables = TablesOf(order, ConfigOf(3, 40));
    const auto file = PlanFileFromJson(PlanFileToJson(*plan, tables));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->plan, *plan) << seed;
    const auto again = OrderIn(file->tables, ConfigOf(3, 40));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->layers, order.layers) << seed;
    EXPECT_EQ(file->tables.order, OrderId(order, 3)) << seed;
  }
}

TEST(PlanTables, EachLayerIsOneLineWithItsRuns) {
  const model::NeuronOrder order{{{5, 0, 1, 2, 4, 3}, {0, 1, 2, 3, 4, 5}}};
  const std::string json =
      PlanFileToJson(*PlanFromJson(JsonWith("")), TablesOf(order, ConfigOf(2, 6)));
  EXPECT_THAT(json, HasSubstr("\n    [5,[0,3],4,3],\n    [[0,6]]\n"));
}

TEST(PlanTables, WithoutThemAPlanIsAsEver) {
  const Plan plan = *PlanFromJson(JsonWith(""));
  EXPECT_EQ(PlanFileToJson(plan, {}), PlanToJson(plan));
  const auto file = PlanFileFromJson(PlanToJson(plan));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tables, PlanTables());
  const auto order = OrderIn(file->tables, ConfigOf(2, 6));
  ASSERT_TRUE(order.ok());
  EXPECT_TRUE(order->layers.empty());
}

TEST(PlanTables, TheFilesOrderIsTheSameHoweverItIsWritten) {
  const model::NeuronOrder in_full{{{0, 1, 2}, {0, 1, 2}}}, none, one_layer{{{}, {0, 1, 2}}};
  EXPECT_EQ(OrderId(in_full, 2), 0u);
  EXPECT_EQ(OrderId(none, 2), 0u);
  EXPECT_EQ(OrderId(one_layer, 2), 0u);
  const model::NeuronOrder other{{{}, {0, 2, 1}}}, other_in_full{{{0, 1, 2}, {0, 2, 1}}};
  EXPECT_NE(OrderId(other, 2), 0u);
  EXPECT_EQ(OrderId(other, 2), OrderId(other_in_full, 2));
  EXPECT_EQ(OrderName(0), "file");
  EXPECT_EQ(OrderName(0x9f), "000000000000009f");
  EXPECT_TRUE(AreEqualTables({}, in_full.Of(0)));
  EXPECT_FALSE(AreEqualTables(other.Of(1), {}));
}

TEST(PlanTables, TheFirstViolatedRuleIsNamedWithItsNumbers) {
  const std::string all = "[[0,6]]";
  EXPECT_EQ(RuleOf(Str("[", all, ",", all, "]")), "");
  EXPECT_THAT(RuleOf("[]"), HasSubstr("neuron_tables is not a list of one table per layer"));
  EXPECT_THAT(RuleOf("7"), HasSubstr("neuron_tables is not a list of one table per layer"));
  EXPECT_THAT(RuleOf(Str("[", all, "]")),
              HasSubstr("neuron_tables are of 1 layers, the model has 2"));
  EXPECT_THAT(RuleOf(Str("[", all, ",[0,1,[2,4],1,5]]")),
              HasSubstr("neuron_tables[1] has neuron 1 twice, at places 1 and 4"));
  EXPECT_THAT(RuleOf(Str("[[5,4,2,1,0],", all, "]")),
              HasSubstr("neuron_tables[0] lacks neuron 3: it has 5 of 6"));
  EXPECT_THAT(RuleOf(Str("[[[0,7]],", all, "]")),
              HasSubstr("neuron_tables[0] has neuron 6, the layer has 6"));
  EXPECT_THAT(RuleOf(Str("[", all, ",8]")), HasSubstr("neuron_tables[1] is not a list of neurons"));
  for (const char* entry : {"-1", "0.5", "\"0\"", "1048576", "[0]", "[3,3]", "[4,2]", "[0,1048577]",
                            "[0,1,2]", "null"}) {
    EXPECT_THAT(RuleOf(Str("[[0,", entry, "]]")),
                HasSubstr("neuron_tables[0][1] is neither a neuron nor [begin, end)"))
        << entry;
  }
}

TEST(PlanTables, HugeRunsTakeNoMemory) {
  std::string layer = "[0,1048576]";
  for (int i = 0; i < 10; ++i) layer += "," + layer;
  EXPECT_THAT(RuleOf(Str("[[", layer, "],[]]")), HasSubstr("has neuron 6, the layer has 6"));
}

TEST(PlanTables, TheStatedOrderIsThatOfTheTables) {
  const auto rule = [](const std::string& order) {
    const auto file = PlanFileFromJson(
        JsonWith(Str(R"(,"neuron_order":")", order, R"(","neuron_tables":[[[0,6]],[[0,6]]])")));
    return file.ok() ? OrderIn(file->tables, ConfigOf(2, 6)).status().message()
                     : file.status().message();
  };
  EXPECT_EQ(rule("file"), "");
  EXPECT_THAT(
      rule("00000000000000ab"),
      HasSubstr("neuron_order is 00000000000000ab, but the order of neuron_tables is file"));
  for (const char* text : {"", "ab", "0000000000000000", "000000000000000g", "00000000000000ab0"}) {
    EXPECT_THAT(rule(text), HasSubstr("neuron_order is neither")) << text;
  }
  EXPECT_THAT(ErrorOf(R"(,"neuron_order":7)"), HasSubstr("neuron_order is neither"));
}

TEST(PlanTables, OtherFieldsAndSyntaxAreCheckedAsEver) {
  EXPECT_THAT(ErrorOf(R"(,"neuron_order":"file","n_ctxx":7)"), HasSubstr("unknown field: n_ctxx"));
  EXPECT_THAT(ErrorOf(R"(,"neuron_order":"file","wire":"F8")"), HasSubstr("wire is not F32"));
  EXPECT_THAT(ErrorOf(",\n\"neuron_order\":file"), HasSubstr("not JSON: line 2"));
  EXPECT_THAT(PlanFileFromJson(R"(["neuron_order"])").status().message(),
              HasSubstr("plan is not an object"));
  const std::string large(kMaxPlanFileBytes, ' ');
  EXPECT_THAT(ErrorOf(Str(R"(,"neuron_order":"file")", large)), HasSubstr("plan is too large"));
}

TEST(PlanTables, DeepNestingIsRefused) {
  const std::string opened(200'000, '['), closed(200'000, ']');
  const auto file = PlanFileFromJson(Str(R"({"neuron_order":"file","x":)", opened, closed, "}"));
  EXPECT_THAT(file.status().message(), HasSubstr("plan nests too deep"));
}

TEST(PlanTables, APlanOfAnotherOrderIsNoticedUnlessItHasItsOwn) {
  const PlanTables made{.order = 0xab};
  EXPECT_EQ(OrderNote(made, 0xab), "");
  EXPECT_EQ(OrderNote({}, 0xab), "");
  EXPECT_THAT(OrderNote(made, 0),
              HasSubstr("(00000000000000ab) than is used here (the model file's)"));
  EXPECT_EQ(OrderNote({.layers = {{{0, 6}}}, .order = 0xab}, 0), "");
}

TEST(PlanTables, HeatsFollowTheirNeurons) {
  // In the order now: neuron 2 fires most, then 0, then 1.
  const std::vector<NeuronHeat> heats = {NeuronHeat::InPlaces({0.9, 0.5, 0.1}),
                                         NeuronHeat::InPlaces({0.8, 0.2, 0.1})};
  const model::NeuronOrder now{{{2, 0, 1}, {0, 1, 2}}}, next{{{0, 1, 2}, {0, 1, 2}}};
  const auto moved = HeatsInOrder(heats, now, next);
  EXPECT_THAT(moved[0].fires(), ElementsAre(0.5, 0.1, 0.9));
  EXPECT_THAT(moved[1].fires(), ElementsAre(0.8, 0.2, 0.1));
  EXPECT_THAT(HeatsInOrder(heats, now, {})[0].fires(), ElementsAre(0.9, 0.5, 0.1));
  const model::NeuronOrder files;
  EXPECT_THAT(HeatsInOrder(heats, files, {{{1, 0, 2}, {0, 1, 2}}})[0].fires(),
              ElementsAre(0.5, 0.9, 0.1));
}

}  // namespace
}  // namespace thermocline::placement
