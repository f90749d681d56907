// Heads of attention that a stage's members share: what plans may say of them, and what it weighs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/str.h"
#include "placement/overhead.h"
#include "placement/plan.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kHeads = 8, kLayers = 3;

const TinyModelParts& Model() {
  static const TinyModelParts parts = MakeTinyModelParts(
      {.arch = "qwen2", .n_layer = kLayers, .n_embd = 128, .n_head = 16, .n_head_kv = kHeads});
  return parts;
}

class ValidateHeads : public ::testing::Test {
 protected:
  ValidateHeads() {
    for (uint64_t id = 1; id <= 4; ++id) {
      cluster_.workers.push_back({.id = {id}, .host = "h", .memory_bytes = kGiB});
    }
  }
  Result<Plan> Complete(std::string_view json) const {
    TC_ASSIGN_OR_RETURN(Plan plan, PlanFromJson(json));
    return CompletePlan(plan, model_.config, model_.weights, cluster_, request_);
  }
  std::string ErrorOf(const Plan& plan) const {
    return ValidatePlan(plan, model_.config, model_.weights, cluster_, request_).message();
  }
  // Of one stage with two helpers, of which the first has half of the neurons.
  Result<Plan> Shared(const std::string& lead, const std::string& two, const std::string& three) {
    const auto field = [](const std::string& heads) {
      return heads.empty() ? "" : Str(R"(,"heads":)", heads);
    };
    return Complete(Str(R"({"stages":[{"lead":1,"layers":[0,3])", field(lead),
                        R"(,"helpers":[{"worker":2,"neurons":[64,128])", field(two),
                        R"(},{"worker":3,"neurons":[0,0])", field(three), "}]}]}"));
  }

  const TinyModelParts& model_ = Model();
  PlanRequest request_{.n_ctx = 64, .n_parallel = 2, .epoch = {4}, .model_fingerprint = "f"};
  ClusterProfile cluster_;
};

TEST_F(ValidateHeads, TheLeadKeepsThoseThatAreLeft) {
  const auto plan = Shared("", "[0,2]", "[5,8]");
  ASSERT_TRUE(plan.ok()) << plan.status();
  const StagePlan& stage = plan->stages[0];
  EXPECT_EQ(stage.heads, (HeadRange{2, 5}));
  const ModelBytes model = ModelBytes::Of(model_.config, model_.weights, request_.ffn);
  PartBytes all = stage.bytes();
  uint64_t kv_bytes = stage.kv_bytes;
  for (const HelperPlan& helper : stage.helpers) {
    all += helper.bytes;
    kv_bytes += helper.kv_bytes;
  }
  uint64_t twice = 0;  // both helpers the norm before attention, one that before the FFN
  for (int layer = 0; layer < kLayers; ++layer) {
    twice += 2 * model_.weights.Find(model::WeightRole::kAttnNorm, layer)->size_bytes;
    twice += model_.weights.Find(model::WeightRole::kFfnNorm, layer)->size_bytes;
  }
  EXPECT_EQ(all.weights, model.Weights(stage.layers) + twice);
  const auto n_pages = static_cast<uint64_t>(plan->kv.n_pages);
  EXPECT_EQ(kv_bytes, n_pages * kLayers * KvPageBytes(model_.config, plan->kv));
  EXPECT_EQ(stage.helpers[0].kv_bytes * 3, stage.helpers[1].kv_bytes * 2);
}

TEST_F(ValidateHeads, NobodyNeedsToShareThem) {
  const auto plan = Shared("", "", "");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->stages[0].shares_heads());
  EXPECT_EQ(PlanToJson(*plan).find("heads"), std::string::npos) << "as it was written before";
}

TEST_F(ValidateHeads, AHelperMayHaveHeadsOnly) {
  const auto plan = Complete(R"({"stages":[{"lead":1,"layers":[0,3],
      "helpers":[{"worker":2,"heads":[4,8]}]}]})");
  ASSERT_TRUE(plan.ok()) << plan.status();
  const HelperPlan& helper = plan->stages[0].helpers[0];
  EXPECT_EQ(helper.neurons, std::vector<NeuronRange>(kLayers));
  EXPECT_EQ(plan->stages[0].neurons, std::vector<NeuronRange>(kLayers, {0, 128}));
  const auto again = PlanFromJson(PlanToJson(*plan));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, *plan);
}

TEST_F(ValidateHeads, ErrorsNameTheRuleWithItsNumbers) {
  const auto error = [&](const char* lead, const char* two, const char* three) {
    return Shared(lead, two, three).status().message();
  };
  EXPECT_THAT(error("[0,4]", "[3,6]", "[6,8]"), HasSubstr("heads are placed twice: from=3 to=4"));
  EXPECT_THAT(error("[0,4]", "[5,6]", "[6,8]"), HasSubstr("heads are placed nowhere: from=4 to=5"));
  EXPECT_THAT(error("[0,4]", "[4,6]", "[6,7]"), HasSubstr("end elsewhere than the layer: end=7"));
  EXPECT_THAT(error("[0,4]", "[4,9]", ""),
              HasSubstr("helper 2 of stage 0 (worker 1, layers 0-3) gets heads that the model does "
                        "not have: begin=4 end=9 n_head_kv=8"));
  EXPECT_THAT(error("", "[0,4]", "[4,8]"), HasSubstr("leaves its lead no head"));
  EXPECT_THAT(error("[4]", "", ""), HasSubstr("stages[0].heads is not [begin, end)"));
  EXPECT_THAT(error("[4,3]", "", ""), HasSubstr("stages[0].heads is not [begin, end)"));
  EXPECT_THAT(
      Complete(R"({"stages":[{"lead":1,"layers":[0,3],"heads":[0,4]}]})").status().message(),
      HasSubstr("stages[0].heads are the lead's own beside those of helpers"));
  Plan plan = *Complete(R"({"stages":[{"lead":1,"layers":[0,3]}]})");
  plan.stages[0].heads = {0, 8};
  EXPECT_THAT(ErrorOf(plan), HasSubstr("shares its heads with no helper"));
}

TEST_F(ValidateHeads, KeysAndValuesAreStatedAndFit) {
  Plan plan = *Shared("", "[0,2]", "[5,8]");
  plan.stages[0].helpers[1].kv_bytes -= 1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("helper 3 of stage 0 (worker 1, layers 0-3) states another "
                                       "KV size than its pages have"));
  plan = *Shared("", "[0,2]", "[5,8]");
  const StagePlan& stage = plan.stages[0];
  const OverheadModel overhead(model_.config, model_.weights, request_.ffn,
                               request_.max_step_tokens, 0);
  const HelperPlan& helper = stage.helpers[1];
  const uint64_t needed =
      helper.bytes.sum() + helper.kv_bytes + overhead.OfHelper(stage, helper, Holder::kProcess);
  cluster_.workers[2].memory_bytes = needed;
  EXPECT_EQ(ErrorOf(plan), "");
  cluster_.workers[2].memory_bytes = needed - 1;
  EXPECT_THAT(ErrorOf(plan), HasSubstr("helper 3 of stage 0 (worker 1, layers 0-3) does not fit"));
  cluster_.workers[2].memory_bytes = needed;
  // Pages that nobody has wished for are as many as the smallest member has room for.
  request_.n_ctx = 16;
  request_.n_parallel = 1000;
  const auto fewer = Shared("", "[0,2]", "[5,8]");
  ASSERT_TRUE(fewer.ok()) << fewer.status();
  EXPECT_EQ(fewer->kv.n_pages, plan.kv.n_pages);
}

TEST_F(ValidateHeads, PagesCanBeTold) {
  Plan plan = *Shared("", "[0,2]", "[5,8]");
  plan.kv.n_pages = kMaxToldPages + 1;
  EXPECT_THAT(ErrorOf(plan),
              HasSubstr("more pages than its helpers can be told of: n_pages=524289"));
}

// Whatever intervals somebody writes: accepted exactly where each head is held once, and the lead
// has one.
TEST_F(ValidateHeads, EachHeadIsHeldOnce) {
  Plan plan = *Shared("", "[0,2]", "[5,8]");
  const ModelBytes bytes = ModelBytes::Of(model_.config, model_.weights, request_.ffn);
  int n_good = 0;
  for (uint32_t seed = 1; seed <= 3000; ++seed) {
    std::minstd_rand random(seed);
    StagePlan& stage = plan.stages[0];
    std::vector<int> cuts;
    for (int i = 0; i < 4; ++i) cuts.push_back(static_cast<int>(random() % (kHeads + 1)));
    if (seed % 2 == 0) cuts[0] = 0, cuts[3] = kHeads;
    if (seed % 4 == 0) std::sort(cuts.begin(), cuts.end());
    std::vector<HeadRange> ranges;
    for (size_t i = 0; i < 3; ++i) {
      ranges.push_back({std::min(cuts[i], cuts[i + 1]), std::max(cuts[i], cuts[i + 1])});
    }
    std::shuffle(ranges.begin(), ranges.end(), random);
    stage.heads = ranges[0];
    stage.helpers[0].heads = ranges[1];
    stage.helpers[1].heads = ranges[2];
    const PartBytes lead =
        bytes.LeadPart(stage.layers, stage.neurons, NeuronRows::kAsIs, stage.heads);
    stage.weights_bytes = lead.weights;
    stage.kv_bytes = KvBytes(model_.config, plan.kv, stage.layers, HeadsOf(stage, model_.config));
    for (HelperPlan& helper : stage.helpers) {
      helper.bytes =
          bytes.HelperPart(stage.layers, helper.neurons, NeuronRows::kAsIs, helper.heads);
      helper.kv_bytes = KvBytes(model_.config, plan.kv, stage.layers, helper.heads);
    }
    std::vector<int> n_holders(kHeads, 0);
    for (const HeadRange& range : ranges) {
      for (int head = range.begin; head < range.end; ++head) ++n_holders[static_cast<size_t>(head)];
    }
    const bool is_nobodys = ranges[0].empty() && ranges[1].empty() && ranges[2].empty();
    const bool is_good =
        is_nobodys || (!ranges[0].empty() && n_holders == std::vector<int>(kHeads, 1));
    EXPECT_EQ(ErrorOf(plan).empty(), is_good) << "seed " << seed << ": " << ErrorOf(plan);
    n_good += is_good ? 1 : 0;
  }
  EXPECT_GT(n_good, 100);
}

}  // namespace
}  // namespace thermocline::placement
