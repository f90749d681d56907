// What fits where: KV pages, scratch and predictors in the plans that MakePlan makes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "base/str.h"
#include "base/units.h"
#include "placement/context.h"
#include "placement/forecast.h"
#include "placement/link_preset.h"
#include "placement/overhead.h"
#include "placement/planner.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 6;

// Made once: random weights take longer than the tests.
const TinyModelParts& SixLayers() {
  static const TinyModelParts parts = MakeTinyModelParts({.n_layer = kLayers});
  return parts;
}

ClusterProfile ClusterOf(const std::vector<uint64_t>& memories) {
  ClusterProfile cluster;
  for (const uint64_t memory_bytes : memories) {
    const uint64_t id = cluster.workers.size() + 1;
    cluster.workers.push_back({.id = {id},
                               .host = Str("node", id),
                               .n_cores = 4,
                               .memory_bytes = memory_bytes,
                               .read_bytes_per_s = Figure::Measured(1e9)});
  }
  const Status filled = FillLinks(*FindLinkPreset(kDefaultLinkPreset), LinkKind::kZmq, &cluster);
  EXPECT_TRUE(filled.ok()) << filled;
  return cluster;
}

class PlannerMemoryTest : public ::testing::Test {
 protected:
  PlannerMemoryTest() {
    options_.request = {.n_ctx = 64, .n_parallel = 2, .epoch = {1}, .model_fingerprint = "f"};
  }
  Result<PlannedModel> MakeFor(const TinyModelParts& model,
                               const std::vector<uint64_t>& memories) const {
    const ClusterProfile cluster = ClusterOf(memories);
    const std::vector<NeuronHeat> heats = UniformHeats(model.config, 1);
    return MakePlan(
        {.config = model.config, .weights = model.weights, .heats = heats, .cluster = cluster},
        options_);
  }
  Result<PlannedModel> Make(const std::vector<uint64_t>& memories) const {
    return MakeFor(model_, memories);
  }
  // Of a worker that runs the whole model.
  static uint64_t OverheadOf(const TinyModelParts& model, int max_step_tokens,
                             model::FfnModes ffn = model::FfnMode::kDense) {
    return OverheadModel(model.config, model.weights, ffn, max_step_tokens, 0)
        .MostOfLead({0, kLayers, true, true}, 0, Holder::kProcess);
  }
  // Of each of two workers, for a pipeline of all layers with one sequence; 0 where one alone needs
  // no more.
  uint64_t LeastOfTwo(const TinyModelParts& model) const {
    const int n = model.config.n_layer;
    const OverheadModel overhead(model.config, model.weights, model::FfnMode::kDense,
                                 options_.request.max_step_tokens, 0);
    const uint64_t kv_bytes = 4 * KvPageBytes(model.config, options_.request.kv);
    const auto needed = [&](int begin, int end) {
      const model::LayerRange layers = {begin, end, begin == 0, end == n};
      return overhead.MostOfLead(layers, 0, Holder::kProcess) + model.weights.BytesOf(layers) +
             kv_bytes * static_cast<uint64_t>(end - begin);
    };
    uint64_t least = UINT64_MAX;
    for (int cut = 1; cut < n; ++cut) {
      least = std::min(least, std::max(needed(0, cut), needed(cut, n)));
    }
    return least < needed(0, n) ? least : 0;
  }
  uint64_t overhead() const { return OverheadOf(model_, options_.request.max_step_tokens); }
  // Of all layers.
  uint64_t page_bytes() const { return KvPageBytes(model_.config, options_.request.kv) * kLayers; }

  const TinyModelParts& model_ = SixLayers();
  const uint64_t weights_ = model_.weights.BytesOf({0, kLayers, true, true});
  PlannerOptions options_;
};

TEST_F(PlannerMemoryTest, EqualWorkersShareTheLayersForThroughput) {
  options_.latency_weight = 0;
  options_.n_streams = 3;
  options_.policy = SplitPolicy::kPipelineOnly;
  const auto planned = Make({kGiB, kGiB, kGiB});
  ASSERT_TRUE(planned.ok()) << planned.status();
  const Plan& plan = planned->plan;
  ASSERT_EQ(plan.stages.size(), 3u);
  uint64_t total = 0;
  for (const StagePlan& stage : plan.stages) {
    EXPECT_EQ(stage.weights_bytes, model_.weights.BytesOf(stage.layers));
    total += stage.weights_bytes;
  }
  EXPECT_EQ(total, weights_);
  EXPECT_EQ(plan.kv.n_pages, 8);  // two sequences of 64 tokens in pages of 16
  EXPECT_EQ(plan.n_ctx, 64);
  EXPECT_EQ(*PlanFromJson(PlanToJson(plan)), plan);
}

TEST_F(PlannerMemoryTest, AsManyPagesAsMemoryHolds) {
  options_.request.n_parallel = 1000;
  const auto planned = Make({overhead() + weights_ + 5 * page_bytes() + page_bytes() / 2});
  ASSERT_TRUE(planned.ok()) << planned.status();
  EXPECT_EQ(planned->plan.kv.n_pages, 5);
  EXPECT_EQ(planned->plan.n_ctx, 64);
  EXPECT_EQ(planned->plan.stages[0].kv_bytes, 5 * page_bytes());
  EXPECT_EQ(planned->forecast.stages[0].members[0].memory_bytes,
            overhead() + weights_ + 5 * page_bytes());
}

// What fits at one end of the model need not fit at the other, where the head takes other bytes
// than the embedding, nor between them, where frames for longer steps come and go.
TEST_F(PlannerMemoryTest, APipelineIsFoundInTheLeastMemoryThatHoldsOne) {
  options_.request.n_parallel = 1;
  options_.policy = SplitPolicy::kPipelineOnly;
  for (const int n_layer : {3, 5, 9}) {
    const TinyModelParts model = MakeTinyModelParts({.n_layer = n_layer});
    for (const int max_step_tokens : {16, 512, 8192}) {
      options_.request.max_step_tokens = max_step_tokens;
      const uint64_t least = LeastOfTwo(model);
      if (least == 0) continue;
      const auto planned = MakeFor(model, {least, least});
      ASSERT_TRUE(planned.ok()) << n_layer << " " << max_step_tokens << planned.status();
      EXPECT_EQ(planned->plan.stages.size(), 2u);
      EXPECT_EQ(MakeFor(model, {least - 1, least - 1}).status().code(),
                StatusCode::kResourceExhausted);
    }
  }
}

// The search counts all streams, and what is told of them says how many have room.
TEST_F(PlannerMemoryTest, WhereKvIsShortItIsSaidHowManyStreamsItHolds) {
  options_.request.n_parallel = options_.n_streams = 4;
  options_.n_context = 63;
  const auto planned = Make({overhead() + weights_ + 11 * page_bytes()});
  ASSERT_TRUE(planned.ok()) << planned.status();
  EXPECT_EQ(planned->plan.kv.n_pages, 11);
  EXPECT_EQ(HeldText(planned->speed),
            "its KV cache holds 2 of the 4 streams asked for; speeds are of all 4");
  const auto ample = Make({kGiB});
  ASSERT_TRUE(ample.ok()) << ample.status();
  EXPECT_EQ(HeldText(ample->speed), "");
}

// With whole layers no less would do, which is what the pipeline's own search says too.
TEST_F(PlannerMemoryTest, TheMemoryThatIsSaidToBeEnoughIs) {
  options_.request.n_ctx = 8192;
  for (const SplitPolicy policy : {SplitPolicy::kPipelineOnly, SplitPolicy::kOptimal}) {
    options_.policy = policy;
    for (const size_t n_workers : {1, 2, 3, 4, 8}) {
      const std::vector<uint64_t> nothing(n_workers, kMiB);
      const std::string why = Make(nothing).status().message();
      const std::string before = "; --memory ";
      ASSERT_NE(why.find(before), std::string::npos) << why;
      const uint64_t mib = std::stoull(why.substr(why.find(before) + before.size()));
      EXPECT_THAT(why,
                  HasSubstr(n_workers == 1 ? Str(mib, "M is enough")
                                           : Str(mib, "M of each of ", n_workers, " workers")));
      const auto enough = Make(std::vector<uint64_t>(n_workers, mib * kMiB));
      EXPECT_TRUE(enough.ok()) << enough.status();
      if (policy != SplitPolicy::kPipelineOnly) continue;
      const auto too_little = Make(std::vector<uint64_t>(n_workers, (mib - 1) * kMiB));
      EXPECT_THAT(too_little.status().message(), HasSubstr(Str("; --memory ", mib, "M")));
    }
  }
}

// Together they have room for all, but nobody has it for what cannot be cut.
TEST_F(PlannerMemoryTest, RoomInPiecesThatHoldNoLayerIsToldAsSuch) {
  options_.policy = SplitPolicy::kPipelineOnly;
  options_.request.n_parallel = 1;
  options_.request.max_step_tokens = 16;  // so that frames take little: ends have only one
  const model::LayerRange inner = {1, 2, false, false};
  const uint64_t own = OverheadModel(model_.config, model_.weights, options_.request.ffn,
                                     options_.request.max_step_tokens, 0)
                           .MostOfLead(inner, 0, Holder::kProcess);
  const uint64_t layer = model_.weights.BytesOf(inner) + page_bytes() / kLayers * 4;
  const auto why_not = [&](size_t n_workers, uint64_t memory_bytes) {
    const std::string why = Make(std::vector<uint64_t>(n_workers, memory_bytes)).status().message();
    EXPECT_EQ(why.find("are missing"), std::string::npos) << why;
    EXPECT_THAT(why, HasSubstr("; --memory ")) << "the cure";
    return why;
  };
  const std::string layers = why_not(5, own + layer * 19 / 10);
  EXPECT_THAT(layers, HasSubstr(Str("but a layer takes ", FormatBytes(layer), " with its KV")));
  EXPECT_THAT(layers, HasSubstr("at most fit 1 on each of 5 workers of "));
  EXPECT_THAT(layers, HasSubstr(Str("1 of 6 have no place (", FormatBytes(layer), " or more)")));
  EXPECT_THAT(why_not(12, own + layer), HasSubstr("but the last layer with the head fits nobody"));
}

// Another policy than ours may fail where whole layers fit: then more memory is not the cure.
TEST_F(PlannerMemoryTest, APolicyThatLeavesNoRoomIsNamed) {
  uint64_t least = 0;
  options_.policy = SplitPolicy::kPipelineOnly;
  for (uint64_t mib = 32; least == 0 && mib < 1024; ++mib) {
    if (Make({mib * kMiB, mib * kMiB}).ok()) least = mib;
  }
  ASSERT_GT(least, 0u);
  for (const SplitPolicy policy :
       {SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional, SplitPolicy::kPowerInfer}) {
    options_.policy = policy;
    EXPECT_THAT(Make({least * kMiB, least * kMiB}).status().message(),
                AllOf(HasSubstr(Str("does not fit as --policy ", SplitPolicyName(policy),
                                    " deals its layers")),
                      HasSubstr("--policy optimal has a plan")));
  }
}

// F32 rows in 8 bits are a quarter: what is asked for is no more than they need.
TEST_F(PlannerMemoryTest, RowsIn8BitsNeedLessAndItIsSaidHowMuch) {
  options_.policy = SplitPolicy::kPipelineOnly;
  for (const size_t n_workers : {1, 2, 3}) {
    for (const size_t n_narrow : {n_workers, size_t{1}}) {
      ClusterProfile cluster = ClusterOf(std::vector<uint64_t>(n_workers, kMiB / 4));
      const auto make = [&] {
        const std::vector<NeuronHeat> heats = UniformHeats(model_.config, 1);
        return MakePlan({.config = model_.config,
                         .weights = model_.weights,
                         .heats = heats,
                         .cluster = cluster},
                        options_);
      };
      const auto mib_of = [](const std::string& why) {
        const std::string before = "; --memory ";
        EXPECT_THAT(why, HasSubstr(before));
        return std::stoull(why.substr(why.find(before) + before.size()));
      };
      const std::string as_is = make().status().message();
      EXPECT_EQ(as_is.find("8 bits"), std::string::npos) << as_is;
      for (size_t i = 0; i < n_narrow; ++i) {
        cluster.workers[i].neuron_rows = model::NeuronRows::kFp8E4M3;
      }
      const std::string why = make().status().message();
      EXPECT_THAT(why, HasSubstr(" by rows in 8 bits + KV "));
      const uint64_t mib = mib_of(why);
      EXPECT_LE(mib, mib_of(as_is));
      for (WorkerProfile& worker : cluster.workers) worker.memory_bytes = mib * kMiB;
      EXPECT_TRUE(make().ok());
      for (WorkerProfile& worker : cluster.workers) worker.memory_bytes = (mib - 1) * kMiB;
      EXPECT_FALSE(make().ok()) << "less is enough";
    }
  }
}

// Whoever leads alone needs no rows by neuron, which are larger, unless neurons are skipped.
TEST_F(PlannerMemoryTest, AQuantisedModelAloneNeedsItsFileOnly) {
  const TinyModelParts model = MakeTinyModelParts({.n_layer = kLayers, .dtype = DType::kQ8_0});
  const uint64_t weights = model.weights.BytesOf({0, kLayers, true, true});
  options_.request.n_parallel = 1;
  const uint64_t needed =
      OverheadOf(model, options_.request.max_step_tokens) + weights + 4 * page_bytes();
  for (const SplitPolicy policy : {SplitPolicy::kPipelineOnly, SplitPolicy::kOptimal}) {
    options_.policy = policy;
    const auto enough = MakeFor(model, {needed});
    ASSERT_TRUE(enough.ok()) << enough.status();
    EXPECT_EQ(enough->forecast.stages[0].members[0].memory_bytes, needed);
    EXPECT_EQ(MakeFor(model, {needed - 1}).status().code(), StatusCode::kResourceExhausted);
  }
}

TEST_F(PlannerMemoryTest, ContextIsShortenedOnlyWhenItWasNotAskedFor) {
  const std::vector<uint64_t> one = {overhead() + weights_ + 20 * page_bytes()};
  options_.request.n_ctx = 0;
  const auto shortened = Make(one);
  ASSERT_TRUE(shortened.ok()) << shortened.status();
  EXPECT_EQ(shortened->plan.n_ctx, 320);  // of 512
  options_.request.n_ctx = 512;
  EXPECT_EQ(Make(one).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(PlannerMemoryTest, LargerStepsLeaveLessForTheKv) {
  const uint64_t small = OverheadOf(model_, 512);
  const uint64_t large = OverheadOf(model_, 4096);
  EXPECT_EQ(OverheadOf(model_, 1), OverheadOf(model_, kLogitsBlockRows));
  // x, its norm, gate and up at least.
  EXPECT_GE((large - small) / (4096 - 512),
            sizeof(float) * (2 * uint64_t(model_.config.n_embd) + 2 * model_.config.n_ff));

  const std::vector<uint64_t> one = {small + weights_ + 8 * page_bytes()};
  EXPECT_TRUE(Make(one).ok());
  options_.request.max_step_tokens = 4096;
  EXPECT_EQ(Make(one).status().code(), StatusCode::kResourceExhausted);
  options_.request.max_step_tokens = 0;
  EXPECT_THAT(Make(one).status().message(), HasSubstr("max_step_tokens out of range: 0"));
}

TEST_F(PlannerMemoryTest, PredictorsTakeMemoryWhereTheyMayRun) {
  testing::TinyModelSpec spec{.n_layer = kLayers};
  spec.dialect = model::GgufDialect::kPowerInfer;
  const TinyModelParts own = MakeTinyModelParts(spec);
  const model::LayerRange all{0, kLayers, true, true};
  const uint64_t predictors = own.weights.PredictorBytesOf(all);
  const int rows = options_.request.max_step_tokens;
  const uint64_t held =
      own.weights.BytesOf(all) + 4 * KvPageBytes(own.config, options_.request.kv) * kLayers;
  EXPECT_TRUE(MakeFor(own, {held + OverheadOf(own, rows)}).ok());
  options_.request.ffn.Add(model::FfnMode::kPredicted);
  const uint64_t scratch = OverheadOf(own, rows, options_.request.ffn);
  EXPECT_EQ(MakeFor(own, {held + scratch}).status().code(), StatusCode::kResourceExhausted);
  const auto planned = MakeFor(own, {held + scratch + predictors});
  ASSERT_TRUE(planned.ok()) << planned.status();
  EXPECT_EQ(planned->plan.stages[0].predictor_bytes, predictors);
}

TEST_F(PlannerMemoryTest, WishesOutOfRangeAreRefused) {
  options_.request.n_parallel = 0;
  EXPECT_THAT(Make({kGiB}).status().message(), HasSubstr("n_parallel out of range: 0"));
  options_.request.n_parallel = 1;
  options_.request.kv.n_pages = 3;
  EXPECT_THAT(Make({kGiB}).status().message(), HasSubstr("n_pages=3 page_tokens=16 n_ctx=64"));
}

TEST_F(PlannerMemoryTest, EnormousWishesDoNotWrap) {
  options_.request.n_ctx = kMaxContextTokens;
  options_.request.n_parallel = kMaxParallel;
  options_.request.kv.page_tokens = 1;
  EXPECT_EQ(Make({kGiB}).status().code(), StatusCode::kResourceExhausted);
  options_.request.kv.n_pages = kMaxKvTokens + 1;
  EXPECT_THAT(Make({kGiB}).status().message(), HasSubstr("kv.n_pages out of range"));
}

TEST_F(PlannerMemoryTest, AStoppedSearchSaysSo) {
  const std::atomic<bool> stop{true};
  options_.stop = &stop;
  EXPECT_EQ(Make({kGiB, kGiB}).status().code(), StatusCode::kAborted);
}

TEST(ParseObjective, NamesAndWeights) {
  EXPECT_EQ(*ParseObjective("latency"), 1);
  EXPECT_EQ(*ParseObjective("throughput"), 0);
  EXPECT_EQ(*ParseObjective("weighted"), 0.5);
  EXPECT_EQ(*ParseObjective("0.25"), 0.25);
  for (const char* wrong : {"", "cheap", "1.5", "-0.1", "nan", "0.5x"}) {
    EXPECT_THAT(ParseObjective(wrong).status().message(), HasSubstr("--objective is not latency"))
        << wrong;
  }
}

}  // namespace
}  // namespace thermocline::placement
