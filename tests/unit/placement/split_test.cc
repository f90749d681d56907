#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "placement/context.h"
#include "placement/model_bytes.h"
#include "placement/plan.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

WorkerProfile Worker(uint64_t id, uint64_t memory_bytes, double bytes_per_s) {
  return {.id = {id},
          .host = "node" + std::to_string(id),
          .n_cores = 4,
          .memory_bytes = memory_bytes,
          .read_bytes_per_s = Figure::Measured(bytes_per_s)};
}

// Made once: random weights take longer than the tests.
const TinyModelParts& SixLayers() {
  static const TinyModelParts parts = MakeTinyModelParts({.n_layer = 6});
  return parts;
}

class SplitTest : public ::testing::Test {
 protected:
  const TinyModelParts& model_ = SixLayers();
  const ClusterProfile three_{{Worker(1, kGiB, 1e9), Worker(2, kGiB, 1e9), Worker(3, kGiB, 1e9)}};
  PlanRequest request_{.n_ctx = 64, .n_parallel = 2, .epoch = {1}, .model_fingerprint = "f"};

  Result<Plan> Split(const ClusterProfile& cluster) const {
    return SplitProportionally(model_.config, model_.weights, cluster, request_);
  }
};

TEST_F(SplitTest, EqualWorkersShareTheLayersAndThePlanIsValid) {
  const auto plan = Split(three_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 3u);
  uint64_t total = 0;
  for (const StagePlan& stage : plan->stages) {
    EXPECT_EQ(stage.weights_bytes, model_.weights.BytesOf(stage.layers));
    EXPECT_THAT(stage.reason, HasSubstr("layers, "));
    total += stage.weights_bytes;
  }
  EXPECT_EQ(total, model_.weights.BytesOf({0, 6, true, true}));
  EXPECT_EQ(plan->kv.n_pages, 8);  // two sequences of 64 tokens in pages of 16
  EXPECT_EQ(plan->n_ctx, 64);
  EXPECT_TRUE(ValidatePlan(*plan, model_.config, model_.weights, three_, request_).ok());
  EXPECT_EQ(*PlanFromJson(PlanToJson(*plan)), *plan);
}

TEST_F(SplitTest, FasterWorkerGetsMoreLayers) {
  const auto plan = Split({{Worker(1, kGiB, 1e9), Worker(2, kGiB, 5e9)}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 2u);
  EXPECT_EQ(plan->stages[0].layers, (model::LayerRange{0, 1, true, false}));
}

TEST_F(SplitTest, UnknownBandwidthCountsAsTheMean) {
  const auto known = Split({{Worker(1, kGiB, 2e9), Worker(2, kGiB, 3e9), Worker(3, kGiB, 4e9)}});
  const auto unknown = Split({{Worker(1, kGiB, 2e9), Worker(2, kGiB, 0), Worker(3, kGiB, 4e9)}});
  ASSERT_TRUE(known.ok() && unknown.ok());
  for (size_t i = 0; i < known->stages.size(); ++i) {
    EXPECT_EQ(known->stages[i].layers, unknown->stages[i].layers);
  }
  EXPECT_THAT(unknown->stages[1].reason, HasSubstr("bandwidth not measured"));
}

TEST_F(SplitTest, WorkersBeyondTheLayersStaySpare) {
  ClusterProfile cluster;
  for (uint64_t id = 1; id <= 9; ++id) cluster.workers.push_back(Worker(id, kGiB, 1e9));
  const auto plan = Split(cluster);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages.size(), 6u);
}

TEST_F(SplitTest, FewerPagesWhereMemoryIsShort) {
  request_.n_parallel = 1000;
  const uint64_t overhead = OverheadBytes(model_.config, request_.max_step_tokens);
  const uint64_t weights = model_.weights.BytesOf({0, 6, true, true});
  const uint64_t page = KvPageBytes(model_.config, request_.kv) * 6;
  const ClusterProfile one{{Worker(1, overhead + weights + 5 * page + page / 2, 1e9)}};
  const auto plan = Split(one);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->kv.n_pages, 5);
  EXPECT_EQ(plan->n_ctx, 64);
  EXPECT_EQ(plan->stages[0].kv_bytes, 5 * page);
}

TEST_F(SplitTest, LargerStepsLeaveLessForTheKv) {
  const uint64_t small = OverheadBytes(model_.config, 512);
  const uint64_t large = OverheadBytes(model_.config, 4096);
  const uint64_t row_bytes = (large - small) / (4096 - 512);
  EXPECT_GE(row_bytes,
            sizeof(float) * (6 * uint64_t(model_.config.n_embd) + 3 * model_.config.n_ff));
  EXPECT_GE(small, kRuntimeBytes + 512 * row_bytes +
                       kLogitsBlockRows * sizeof(float) * uint64_t(model_.config.n_vocab));
  EXPECT_EQ(OverheadBytes(model_.config, 1), OverheadBytes(model_.config, kLogitsBlockRows));

  const uint64_t weights = model_.weights.BytesOf({0, 6, true, true});
  const uint64_t page = KvPageBytes(model_.config, request_.kv) * 6;
  const ClusterProfile one{{Worker(1, small + weights + 8 * page, 1e9)}};
  EXPECT_TRUE(Split(one).ok());
  request_.max_step_tokens = 4096;
  EXPECT_EQ(Split(one).status().code(), StatusCode::kResourceExhausted);
  request_.max_step_tokens = 0;
  EXPECT_THAT(Split(one).status().message(), HasSubstr("max_step_tokens out of range: 0"));
}

TEST_F(SplitTest, PredictorsTakeMemoryWhereTheyMayRun) {
  testing::TinyModelSpec spec{.n_layer = 6};
  spec.dialect = model::GgufDialect::kPowerInfer;
  const TinyModelParts own = MakeTinyModelParts(spec);
  const model::LayerRange all{0, 6, true, true};
  const uint64_t predictors = own.weights.PredictorBytesOf(all);
  const uint64_t needed = OverheadBytes(own.config, request_.max_step_tokens) +
                          own.weights.BytesOf(all) + 4 * KvPageBytes(own.config, request_.kv) * 6;
  const auto split = [&](uint64_t memory_bytes) {
    return SplitProportionally(own.config, own.weights, {{Worker(1, memory_bytes, 1e9)}}, request_);
  };
  EXPECT_TRUE(split(needed).ok());
  request_.ffn.Add(model::FfnMode::kPredicted);
  EXPECT_EQ(split(needed).status().code(), StatusCode::kResourceExhausted);
  const auto plan = split(needed + predictors);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[0].predictor_bytes, predictors);
  EXPECT_THAT(plan->stages[0].reason, HasSubstr("predictors"));
}

TEST_F(SplitTest, ContextIsShortenedOnlyWhenItWasNotAskedFor) {
  const uint64_t overhead = OverheadBytes(model_.config, request_.max_step_tokens);
  const uint64_t weights = model_.weights.BytesOf({0, 6, true, true});
  const uint64_t page = KvPageBytes(model_.config, request_.kv) * 6;
  const ClusterProfile one{{Worker(1, overhead + weights + 20 * page, 1e9)}};
  request_.n_ctx = 0;
  const auto shortened = Split(one);
  ASSERT_TRUE(shortened.ok()) << shortened.status();
  EXPECT_EQ(shortened->n_ctx, 320);  // of 512
  request_.n_ctx = 512;
  EXPECT_EQ(Split(one).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(SplitTest, ModelThatDoesNotFitNamesTheMissingBytes) {
  const uint64_t overhead = OverheadBytes(model_.config, request_.max_step_tokens);
  const auto plan = Split({{Worker(1, overhead + 1000, 1e9), Worker(2, 5, 1e9)}});
  EXPECT_EQ(plan.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(plan.status().message(), HasSubstr("model does not fit: needs "));
  EXPECT_THAT(plan.status().message(), HasSubstr("workers offer 1000 B; missing "));
  EXPECT_THAT(plan.status().message(), HasSubstr("worker 2 node2: 5 B"));
}

TEST_F(SplitTest, RequestsOutOfRangeAreRefused) {
  EXPECT_THAT(Split({}).status().message(), HasSubstr("no workers"));
  request_.n_parallel = 0;
  EXPECT_THAT(Split(three_).status().message(), HasSubstr("n_parallel out of range: 0"));
  request_.n_parallel = 1;
  request_.kv.n_pages = 3;
  EXPECT_THAT(Split(three_).status().message(), HasSubstr("n_pages=3 page_tokens=16 n_ctx=64"));
}

TEST_F(SplitTest, EnormousWishesDoNotWrap) {
  request_.n_ctx = kMaxContextTokens;
  request_.n_parallel = kMaxParallel;
  request_.kv.page_tokens = 1;
  EXPECT_EQ(Split(three_).status().code(), StatusCode::kResourceExhausted);
  request_.kv.n_pages = kMaxKvTokens + 1;
  EXPECT_THAT(Split(three_).status().message(), HasSubstr("kv.n_pages out of range"));
}

TEST_F(SplitTest, RelaidRowsCountAsMemory) {
  const TinyModelParts quantised = MakeTinyModelParts({.n_layer = 2, .dtype = DType::kQ8_0});
  const ModelBytes plain =
      ModelBytes::Of(quantised.config, quantised.weights, model::FfnMode::kDense);
  const ModelBytes relaid =
      ModelBytes::Of(quantised.config, quantised.weights, model::FfnMode::kExact);
  const model::LayerRange all{0, 2, true, true};
  EXPECT_EQ(plain.Relay(all), 0u);
  const uint64_t n_elems = 2 * 64 * 128;
  EXPECT_EQ(relaid.Relay(all), n_elems * 2 - n_elems / 32 * 34);
  EXPECT_EQ(ModelBytes::Of(model_.config, model_.weights, model::FfnMode::kExact)
                .Relay({0, 6, true, true}),
            0u);
}

// PowerInfer's files, and others that `thermocline convert --neuron-rows` wrote.
TEST(ModelBytes, RowsThatLieByNeuronAreNotRelaid) {
  const TinyModelParts rows = MakeTinyModelParts(
      {.dialect = model::GgufDialect::kPowerInfer, .n_layer = 2, .dtype = DType::kQ8_0});
  ASSERT_NE(rows.weights.Find(model::WeightRole::kFfnDownT, 0), nullptr);
  const model::LayerRange all{0, 2, true, true};
  const ModelBytes bytes = ModelBytes::Of(rows.config, rows.weights, model::FfnMode::kExact);
  EXPECT_EQ(bytes.Relay(all), 0u);
  EXPECT_EQ(bytes.Weights(all), rows.weights.BytesOf(all));
}

TEST(ModelBytes, AgreesWithTheIndexOnEveryRange) {
  for (const bool tied : {false, true}) {
    for (const bool rope_freqs : {false, true}) {
      const TinyModelParts model =
          MakeTinyModelParts({.n_layer = 3, .tied = tied, .rope_freqs = rope_freqs});
      const ModelBytes bytes = ModelBytes::Of(model.config, model.weights, model::FfnMode::kDense);
      for (int begin = 0; begin < 3; ++begin) {
        for (int end = begin + 1; end <= 3; ++end) {
          const model::LayerRange layers{begin, end, begin == 0, end == 3};
          EXPECT_EQ(bytes.Weights(layers), model.weights.BytesOf(layers))
              << begin << "-" << end << " tied=" << tied << " rope_freqs=" << rope_freqs;
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline::placement
