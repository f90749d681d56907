#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "placement/overhead.h"
#include "placement/plan.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;
using testing::TinyModelSpec;

// Made once: random weights take longer than the tests.
const TinyModelParts& FiveLayers() {
  static const TinyModelParts parts = MakeTinyModelParts({.n_layer = 5});
  return parts;
}

class ValidateTest : public ::testing::Test {
 protected:
  ValidateTest() {
    for (uint64_t id = 1; id <= 3; ++id) {
      cluster_.workers.push_back({.id = {id}, .host = "h", .memory_bytes = kGiB});
    }
    const auto plan =
        CompletePlan(*PlanFromJson(kMinimal), model_.config, model_.weights, cluster_, request_);
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (plan.ok()) plan_ = *plan;
  }
  std::string ErrorOf(const Plan& plan) const {
    return ValidatePlan(plan, model_.config, model_.weights, cluster_, request_).message();
  }
  Result<Plan> Complete(std::string_view json) const {
    TC_ASSIGN_OR_RETURN(Plan plan, PlanFromJson(json));
    return CompletePlan(plan, model_.config, model_.weights, cluster_, request_);
  }

  static constexpr std::string_view kMinimal =
      R"({"stages":[{"lead":1,"layers":[0,2]},{"lead":2,"layers":[2,5]}]})";
  const TinyModelParts& model_ = FiveLayers();
  const PlanRequest request_{.n_ctx = 64, .n_parallel = 2, .epoch = {4}, .model_fingerprint = "f"};
  ClusterProfile cluster_;
  Plan plan_;
};

TEST_F(ValidateTest, MinimalPlanIsCompleted) {
  EXPECT_EQ(plan_.epoch, Epoch{4});
  EXPECT_EQ(plan_.model_fingerprint, "f");
  EXPECT_EQ(plan_.n_layer, 5);
  EXPECT_EQ(plan_.n_ctx, 64);
  EXPECT_EQ(plan_.kv.n_pages, 8);
  EXPECT_EQ(plan_.stages[0].weights_bytes, model_.weights.BytesOf({0, 2, true, false}));
  EXPECT_EQ(plan_.stages[1].kv_bytes, 3 * 8 * KvPageBytes(model_.config, plan_.kv));
  EXPECT_EQ(plan_.stages[1].reason, "written by hand");
  EXPECT_EQ(ErrorOf(plan_), "");
}

TEST_F(ValidateTest, RowsIn8BitsCountOnTheWorkerThatHasThem) {
  cluster_.workers[1].neuron_rows = NeuronRows::kFp8E4M3;
  const auto plan = Complete(kMinimal);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[0].saved_bytes, 0u);
  EXPECT_GT(plan->stages[1].saved_bytes, 0u);
  EXPECT_EQ(plan->stages[1].weights_bytes, plan_.stages[1].weights_bytes);
  EXPECT_EQ(*PlanFromJson(PlanToJson(*plan)), *plan);
  EXPECT_THAT(
      ErrorOf(plan_),
      HasSubstr("states other savings by rows in 8 bits than its worker has: saved_bytes=0"));
  // Without them it does not fit.
  const uint64_t needed =
      plan->stages[1].bytes().sum() + plan->stages[1].kv_bytes +
      OverheadModel(model_.config, model_.weights, request_.ffn, request_.max_step_tokens, 0)
          .OfLead(plan->stages[1], Holder::kProcess);
  cluster_.workers[1].memory_bytes = needed;
  EXPECT_EQ(ErrorOf(*plan), "");
  cluster_.workers[1].memory_bytes = needed - 1;
  EXPECT_THAT(ErrorOf(*plan), HasSubstr(" - saved by rows in 8 bits "));
}

TEST_F(ValidateTest, CompletionKeepsWhatWasWritten) {
  const auto plan = Complete(
      R"({"n_ctx":32,"kv":{"n_pages":3},"stages":[{"lead":3,"layers":[0,5],"reason":"mine"}]})");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->n_ctx, 32);
  EXPECT_EQ(plan->kv.n_pages, 3);
  EXPECT_EQ(plan->stages[0].reason, "mine");
}

TEST_F(ValidateTest, CompletionRefusesAnotherModel) {
  EXPECT_THAT(Complete(R"({"model_fingerprint":"x","stages":[{"lead":1,"layers":[0,5]}]})")
                  .status()
                  .message(),
              HasSubstr("plan_fingerprint=x model_fingerprint=f"));
}

TEST_F(ValidateTest, CompletionOfLayersThatTheModelLacksIsRefused) {
  EXPECT_THAT(Complete(R"({"stages":[{"lead":1,"layers":[0,9]}]})").status().message(),
              HasSubstr("stages do not end with the last layer: end=9 n_layer=5"));
}

TEST_F(ValidateTest, LayerCountIsTheModels) {
  plan_.n_layer = 6;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("plan_n_layer=6 model_n_layer=5"));
}

TEST_F(ValidateTest, ThereAreStages) {
  plan_.stages.clear();
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("plan has no stages"));
}

TEST_F(ValidateTest, StagesHaveLayers) {
  plan_.stages[0].layers.end = 0;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("stage 0 (worker 1, layers 0-0) has no layers"));
}

TEST_F(ValidateTest, StagesAreContiguous) {
  plan_.stages[1].layers.begin = 3;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("begin=3 wanted=2"));
}

TEST_F(ValidateTest, StagesEndWithTheLastLayer) {
  plan_.stages[1].layers.end = 4;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("end=4 n_layer=5"));
}

TEST_F(ValidateTest, FirstStageHoldsTheEmbedding) {
  plan_.stages[1].layers.has_embed = true;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("embedding: stage 1"));
}

TEST_F(ValidateTest, LastStageHoldsTheHead) {
  plan_.stages[1].layers.has_head = false;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("head: stage 1"));
}

TEST_F(ValidateTest, LeadsExist) {
  plan_.stages[1].lead = {8};
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("not in the cluster: lead=8 workers=1,2,3"));
}

TEST_F(ValidateTest, LeadsDiffer) {
  plan_.stages[1].lead = {1};
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("worker leads two stages"));
}

TEST_F(ValidateTest, KvIsInRange) {
  Plan plan = plan_;
  plan.kv.page_tokens = 0;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("kv.page_tokens out of range: 0"));
  plan = plan_;
  plan.kv.dtype = DType::kQ8_0;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("kv.dtype is neither F32 nor F16: Q8_0"));
  plan = plan_;
  plan.kv.n_pages = 3;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("n_pages=3 page_tokens=16 n_ctx=64"));
  plan = plan_;
  plan.kv.n_pages = -1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("kv.n_pages out of range: -1"));
}

TEST_F(ValidateTest, WireIsAFloatType) {
  plan_.wire = DType::kQ4_0;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("wire is not a float type: Q4_0"));
}

TEST_F(ValidateTest, WireOfALinkIsAFloatType) {
  plan_.stages[0].to_next.wire = DType::kQ8_0;
  EXPECT_THAT(ErrorOf(plan_),
              HasSubstr("link between worker 1 and worker 2: wire is not a float type: Q8_0"));
}

TEST_F(ValidateTest, TheLastStageSaysNothingOfALink) {
  plan_.stages[0].to_next = {LinkKind::kMpi, DType::kF16};
  EXPECT_EQ(ErrorOf(plan_), "");
  plan_.stages[1].to_next.link = LinkKind::kMpi;
  EXPECT_THAT(ErrorOf(plan_),
              HasSubstr("the last stage has no link to a next one, of which it says something: "
                        "stage 1 (worker 2, layers 2-5) says=mpi (F32)"));
}

TEST_F(ValidateTest, ContextIsInRange) {
  plan_.n_ctx = 0;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("n_ctx out of range: 0"));
}

TEST_F(ValidateTest, BytesAreTheModels) {
  Plan plan = plan_;
  plan.stages[0].weights_bytes += 1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("states other weights than the model has"));
  plan = plan_;
  plan.stages[1].kv_bytes -= 1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("states another KV size"));
  plan = plan_;
  plan.stages[0].relay_bytes = 1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("states other re-laid rows than it has: relay_bytes=1"));
}

// One written byte must not hide what re-laying takes from the memory check.
TEST_F(ValidateTest, WrittenRelayBytesAreTheModels) {
  const TinyModelParts quantised = MakeTinyModelParts({.n_layer = 5, .dtype = DType::kQ4_0});
  PlanRequest request = request_;
  request.ffn = model::FfnMode::kExact;
  const auto complete = [&](std::string_view json) {
    return CompletePlan(*PlanFromJson(json), quantised.config, quantised.weights, cluster_,
                        request);
  };
  const auto derived = complete(R"({"stages":[{"lead":1,"layers":[0,5]}]})");
  ASSERT_TRUE(derived.ok()) << derived.status();
  EXPECT_GT(derived->stages[0].relay_bytes, 1u);
  EXPECT_THAT(
      complete(R"({"stages":[{"lead":1,"layers":[0,5],"relay_bytes":1}]})").status().message(),
      HasSubstr("states other re-laid rows than it has: relay_bytes=1 model="));
}

TEST_F(ValidateTest, PredictorsAreCountedWhereTheyAreHeld) {
  TinyModelSpec spec{.n_layer = 5};
  spec.dialect = model::GgufDialect::kPowerInfer;
  const TinyModelParts own = MakeTinyModelParts(spec);
  PlanRequest request = request_;
  const auto complete = [&](std::string_view json) {
    return CompletePlan(*PlanFromJson(json), own.config, own.weights, cluster_, request);
  };
  constexpr std::string_view kOneStage = R"({"stages":[{"lead":1,"layers":[0,5]}]})";
  EXPECT_EQ(complete(kOneStage)->stages[0].predictor_bytes, 0u);
  request.ffn = model::FfnMode::kPredicted;
  const uint64_t predictor_bytes = own.weights.PredictorBytesOf({0, 5, true, true});
  EXPECT_GT(predictor_bytes, 0u);
  EXPECT_EQ(complete(kOneStage)->stages[0].predictor_bytes, predictor_bytes);
  EXPECT_THAT(
      complete(R"({"stages":[{"lead":1,"layers":[0,5],"predictor_bytes":1}]})").status().message(),
      HasSubstr("states other predictors than it holds: predictor_bytes=1 model="));
}

TEST_F(ValidateTest, StagesFitTheirWorkers) {
  cluster_.workers[1].memory_bytes = kRuntimeBytes;
  EXPECT_THAT(ErrorOf(plan_), HasSubstr("stage 1 (worker 2, layers 2-5) does not fit its worker"));
}

constexpr std::string_view kSplit =
    R"({"stages":[{"lead":1,"layers":[0,5],"helpers":[{"worker":2,"neurons":[32,96]},
                                                      {"worker":3,"neurons":[96,128]}]}]})";

TEST_F(ValidateTest, TheLeadOfASplitStageKeepsTheNeuronsThatAreLeft) {
  const auto plan = Complete(kSplit);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const StagePlan& stage = plan->stages[0];
  EXPECT_EQ(stage.neurons, std::vector<NeuronRange>(5, {0, 32}));
  const ModelBytes model = ModelBytes::Of(model_.config, model_.weights, request_.ffn);
  // What helpers hold besides their neurons they hold as well as the lead.
  PartBytes all = stage.bytes();
  for (const HelperPlan& helper : stage.helpers) all += helper.bytes;
  uint64_t norms = 0;
  for (int layer = 0; layer < 5; ++layer) {
    norms += model_.weights.Find(model::WeightRole::kFfnNorm, layer)->size_bytes;
  }
  EXPECT_EQ(all.weights, model.Weights(stage.layers) + 2 * norms);
  EXPECT_EQ(stage.helpers[0].bytes.weights - norms, 2 * (stage.helpers[1].bytes.weights - norms));
}

TEST_F(ValidateTest, ALayerWithoutNeuronsCostsAHelperNothing) {
  const auto plan = Complete(
      R"({"stages":[{"lead":1,"layers":[0,2],
                     "helpers":[{"worker":2,"neurons":[[1,128],[0,0]]}]},
                    {"lead":3,"layers":[2,5]}]})");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[0].neurons, (std::vector<NeuronRange>{{0, 1}, {0, 128}}));
  const ModelBytes model = ModelBytes::Of(model_.config, model_.weights, request_.ffn);
  PartBytes first = model.Neurons(0, {1, 128});
  first.weights += model_.weights.Find(model::WeightRole::kFfnNorm, 0)->size_bytes;
  EXPECT_EQ(plan->stages[0].helpers[0].bytes, first);
}

TEST_F(ValidateTest, EveryNeuronIsPlacedOnce) {
  const auto error = [&](std::string_view neurons) {
    return Complete(std::string(R"({"stages":[{"lead":1,"layers":[0,5],"neurons":[0,32],
                                   "helpers":[{"worker":2,"neurons":)") +
                    std::string(neurons) + "}]}]}")
        .status()
        .message();
  };
  EXPECT_EQ(error("[32,128]"), "");
  EXPECT_THAT(error("[31,128]"), HasSubstr("layer 0: neurons are placed twice: from=31 to=32"));
  EXPECT_THAT(error("[48,128]"), HasSubstr("layer 0: neurons are placed nowhere: from=32 to=48"));
  EXPECT_THAT(error("[32,127]"), HasSubstr("neurons end elsewhere than the layer: end=127"));
  EXPECT_THAT(error("[32,129]"),
              HasSubstr("gets neurons that layer 0 does not have: begin=32 end=129 n_ff=128"));
}

TEST_F(ValidateTest, TheLeadKeepsANeuron) {
  EXPECT_THAT(Complete(R"({"stages":[{"lead":1,"layers":[0,5],
                          "helpers":[{"worker":2,"neurons":[0,128]}]}]})")
                  .status()
                  .message(),
              HasSubstr("leaves its lead no neuron of layer 0"));
}

TEST_F(ValidateTest, HelpersAreInTheClusterAndHaveOnePlace) {
  Plan plan = *Complete(kSplit);
  plan.stages[0].helpers[1].worker = {9};
  EXPECT_THAT(ErrorOf(plan), HasSubstr("helper that is not in the cluster: worker=9"));
  plan.stages[0].helpers[1].worker = {1};
  EXPECT_THAT(ErrorOf(plan), HasSubstr("worker has two places in the plan"));
  plan.stages[0].helpers[1].worker = {2};
  EXPECT_THAT(ErrorOf(plan), HasSubstr("worker has two places in the plan"));
}

TEST_F(ValidateTest, HelpersStateTheirBytesAndFitTheirMemory) {
  Plan plan = *Complete(kSplit);
  plan.stages[0].helpers[0].bytes.weights -= 1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("helper 2 of stage 0"));
  plan = *Complete(kSplit);
  cluster_.workers[1].memory_bytes = kRuntimeBytes;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("helper 2 of stage 0 (worker 1, layers 0-5) does not fit"));
}

TEST_F(ValidateTest, HelpersNeuronsAreThoseOfTheLayer) {
  const auto plan = Complete(R"({"stages":[{"lead":1,"layers":[0,5],
      "helpers":[{"worker":2,"neurons":[64,8192]}]}]})");
  EXPECT_THAT(plan.status().message(),
              HasSubstr("helper 2 of stage 0 (worker 1, layers 0-5) gets neurons that layer 0 does "
                        "not have: begin=64 end=8192 n_ff=128"));
}

TEST_F(ValidateTest, NeuronsAreSharedWithSomebodyAndNamedForEveryLayer) {
  Plan plan = plan_;
  plan.stages[0].neurons = {{0, 128}, {0, 128}};
  EXPECT_THAT(ErrorOf(plan), HasSubstr("shares its neurons with no helper"));
  plan = *Complete(kSplit);
  plan.stages[0].helpers[0].neurons.pop_back();
  EXPECT_THAT(ErrorOf(plan), HasSubstr("does not name its neurons of every layer: layers=5"));
}

}  // namespace
}  // namespace thermocline::placement
