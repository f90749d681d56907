#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"
#include "placement/plan.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;

Plan FullPlan() {
  Plan plan{.epoch = {3},
            .model_fingerprint = "ab12",
            .n_layer = 5,
            .link = LinkKind::kMpi,
            .wire = DType::kBF16,
            .kv = {32, 77, DType::kF16},
            .n_ctx = 2048,
            .micro_batches = 2};
  plan.stages = {{{1}, {0, 2, true, false}, 100, 7, 9, 3, 50, "fast \"disk\""},
                 {{2}, {2, 5, false, true}, 1ull << 40, 0, 0, 0, 75, ""}};
  return plan;
}

Plan SplitPlan() {
  Plan plan = FullPlan();
  plan.stages[0].neurons = {{0, 64}, {32, 128}};
  plan.stages[0].helpers = {
      {.worker = {3},
       .neurons = {{64, 128}, {0, 32}},
       .bytes = {10, 20, 30, 5},
       .reason = "saves time"},
      {.worker = {4}, .neurons = {{0, 0}, {0, 0}}, .bytes = {}, .reason = ""}};
  return plan;
}

// Each link says something else.
Plan MixedPlan() {
  Plan plan = SplitPlan();
  plan.stages[0].to_next = {LinkKind::kZmq, DType::kF16};
  plan.stages[0].helpers[0].to_lead.wire = DType::kF32;
  plan.stages[0].helpers[1].to_lead.link = LinkKind::kZmq;
  return plan;
}

std::string ErrorOf(std::string_view json) { return PlanFromJson(json).status().message(); }

TEST(PlanJson, ReadsBackWhatItWrote) {
  const auto plan = PlanFromJson(PlanToJson(FullPlan()));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(*plan, FullPlan());
}

TEST(PlanJson, ALinkThatIsLeftOutIsTheReadersChoice) {
  const std::string json = PlanToJson(FullPlan(), PlanLink::kLeaveOut);
  EXPECT_EQ(PlanFromJson(json, {.link = LinkKind::kZmq})->link, LinkKind::kZmq);
  EXPECT_EQ(*PlanFromJson(json, {.link = LinkKind::kMpi}), FullPlan());
}

TEST(PlanJson, ReadsBackWhoHoldsWhichNeurons) {
  const auto plan = PlanFromJson(PlanToJson(SplitPlan()));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(*plan, SplitPlan());
}

TEST(PlanJson, ReadsBackWhatLinksSayForThemselves) {
  const auto plan = PlanFromJson(PlanToJson(MixedPlan()));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(*plan, MixedPlan());
  EXPECT_EQ(plan->WayOf(plan->stages[0].to_next), (LinkWay{LinkKind::kZmq, DType::kF16}));
  EXPECT_EQ(plan->WayOf(plan->stages[0].helpers[0].to_lead),
            (LinkWay{LinkKind::kMpi, DType::kF32}));
}

TEST(PlanJson, TransportsOfLinksAreLeftOutWithThatOfAll) {
  SaidOfLinks said{.link = true};
  const auto plan = PlanFromJson(PlanToJson(MixedPlan(), PlanLink::kLeaveOut), {}, &said);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(said.link);
  EXPECT_TRUE(said.wire);
  EXPECT_EQ(plan->stages[0].to_next, (LinkChoice{std::nullopt, DType::kF16}));
  EXPECT_EQ(plan->stages[0].helpers[1].to_lead, LinkChoice{});
}

TEST(PlanJson, ErrorsNameTheLink) {
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,1],"link":"ib"}]})"),
              HasSubstr("stages[0].link is not mpi or zmq: ib"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,1],"wire":8}]})"),
              HasSubstr("stages[0].wire is not a string"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,1],"helpers":[
                          {"worker":2,"neurons":[0,1],"wire":"Q8_0"}]}]})"),
              HasSubstr("stages[0].helpers[0].wire is not F32, F16 or BF16: Q8_0"));
}

TEST(PlanJson, OneRangeOfNeuronsIsThatOfEveryLayer) {
  const auto plan = PlanFromJson(
      R"({"stages":[{"lead":1,"layers":[0,3],"helpers":[{"worker":2,"neurons":[64,128]}]}]})");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[0].helpers[0].neurons,
            (std::vector<NeuronRange>{{64, 128}, {64, 128}, {64, 128}}));
  EXPECT_TRUE(plan->stages[0].neurons.empty());
}

TEST(PlanJson, ErrorsNameTheHelper) {
  const auto error = [](const std::string& helper) {
    return ErrorOf(R"({"stages":[{"lead":1,"layers":[0,2],"helpers":[)" + helper + "]}]}");
  };
  EXPECT_THAT(error(R"({"neurons":[0,1]})"), HasSubstr("stages[0].helpers[0].worker is missing"));
  EXPECT_THAT(error(R"({"worker":2})"), HasSubstr("stages[0].helpers[0].neurons is missing"));
  EXPECT_THAT(error(R"({"worker":2,"neurons":[[0,1]]})"), HasSubstr("one per layer (2)"));
  EXPECT_THAT(error(R"({"worker":2,"neurons":[3,1]})"), HasSubstr("helpers[0].neurons is neither"));
  EXPECT_THAT(error(R"({"worker":2,"neurons":[0,1],"x":1})"),
              HasSubstr("unknown field: stages[0].helpers[0].x"));
}

TEST(PlanJson, MinimalHandWrittenPlanKeepsDefaults) {
  const Plan defaults{.link = LinkKind::kMpi, .wire = DType::kF16, .kv = {8, 0, DType::kF16}};
  const auto plan =
      PlanFromJson(R"({"stages":[{"lead":1,"layers":[0,2]},{"lead":2,"layers":[2,5]}]})", defaults);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->link, LinkKind::kMpi);
  EXPECT_EQ(plan->wire, DType::kF16);
  EXPECT_EQ(plan->kv, defaults.kv);
  ASSERT_EQ(plan->stages.size(), 2u);
  EXPECT_EQ(plan->stages[0].layers, (model::LayerRange{0, 2, true, false}));
  EXPECT_EQ(plan->stages[1].layers, (model::LayerRange{2, 5, false, true}));
}

TEST(PlanJson, SyntaxErrorNamesTheLine) {
  EXPECT_THAT(ErrorOf("{\n \"stages\": [\n  {]\n}"), HasSubstr("line 3"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("the plan is empty"));
}

TEST(PlanJson, ErrorsNameTheField) {
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("plan is not an object"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("stages is not a list"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"layers":[0,2]}]})"), HasSubstr("stages[0].lead is missing"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1}]})"), HasSubstr("stages[0].layers is missing"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0]}]})"), HasSubstr("stages[0].layers"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,-1]}]})"), HasSubstr("stages[0].layers"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":-1,"layers":[0,1]}]})"),
              HasSubstr("stages[0].lead is not an integer"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,1],"color":1}]})"),
              HasSubstr("unknown field: stages[0].color"));
  EXPECT_THAT(ErrorOf(R"({"n_layer":1.5,"stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("n_layer is not an integer"));
  EXPECT_THAT(ErrorOf(R"({"version":2,"stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("version is not an integer in 1..1"));
  EXPECT_THAT(ErrorOf(R"({"link":"ib","stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("link is not mpi or zmq: ib"));
  EXPECT_THAT(ErrorOf(R"({"wire":"Q8_0","stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("wire is not F32, F16 or BF16: Q8_0"));
  EXPECT_THAT(ErrorOf(R"({"kv":{"page_tokens":0},"stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("kv.page_tokens"));
  EXPECT_THAT(ErrorOf(R"({"kv":3,"stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("kv is not an object"));
}

TEST(PlanJson, WhoHasNeuronsWithoutHelpersIsToldWhatTheyAre) {
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,1],"neurons":[0,64]}]})"),
              HasSubstr("stages[0].neurons are the lead's own beside those of helpers, but it has "
                        "no helpers"));
}

TEST(PlanJson, FieldsThatStandTwiceAreRefused) {
  EXPECT_THAT(ErrorOf(R"({"n_ctx":64,"stages":[{"lead":1,"layers":[0,1]}],"n_ctx":32})"),
              HasSubstr("field stands twice in one object: n_ctx"));
  EXPECT_THAT(ErrorOf(R"({"stages":[{"lead":1,"layers":[0,1],"lead":1}]})"),
              HasSubstr("field stands twice in one object: lead"));
  EXPECT_TRUE(
      PlanFromJson(R"({"stages":[{"lead":1,"layers":[0,1]},{"lead":2,"layers":[1,2]}]})").ok());
}

TEST(PlanJson, DeepNestingIsRefused) {
  const auto nested = [](int depth) {
    return Str(R"({"stages":[{"lead":1,"layers":[0,1]}],"x":)", std::string(depth, '['),
               std::string(depth, ']'), "}");
  };
  EXPECT_THAT(ErrorOf(nested(63)), HasSubstr("x"));  // a field that nobody knows, no more
  EXPECT_THAT(ErrorOf(nested(64)), HasSubstr("plan nests too deep: limit=64"));
  EXPECT_THAT(ErrorOf(nested(200'000)), HasSubstr("plan nests too deep"));
}

TEST(PlanJson, NumbersThatOverflowAreRefused) {
  EXPECT_THAT(ErrorOf(R"({"n_ctx":1e999,"stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("number overflow"));
  EXPECT_THAT(ErrorOf(R"({"n_ctx":-1e999,"stages":[]})"), HasSubstr("number overflow"));
  EXPECT_THAT(ErrorOf(R"({"n_ctx":18446744073709551616,"stages":[{"lead":1,"layers":[0,1]}]})"),
              HasSubstr("n_ctx is not an integer"));
}

TEST(PlanJson, LargeAndDeepTextsAreRefused) {
  EXPECT_THAT(ErrorOf(std::string(kMaxPlanJsonBytes + 1, ' ')), HasSubstr("plan is too large"));
  EXPECT_THAT(ErrorOf(std::string(100000, '[')), HasSubstr("plan is not JSON"));
}

}  // namespace
}  // namespace thermocline::placement
