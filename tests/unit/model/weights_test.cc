#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <tuple>

#include "base/str.h"
#include "tests/support/tiny_model.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using testing::GgufImage;
using ::testing::HasSubstr;
using testing::TinyModelSpec;

struct Model {
  ModelConfig config;
  WeightIndex weights;
};

Result<Model> Load(const GgufImage& image) {
  const auto bytes = image.Bytes();
  TC_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(*ReadFromMemory(bytes, "image")));
  Model model;
  TC_ASSIGN_OR_RETURN(model.config, ModelConfig::FromGguf(file));
  TC_ASSIGN_OR_RETURN(model.weights, WeightIndex::Build(model.config, file));
  return model;
}

GgufImage Image(const std::string& arch, bool tied = false) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.tied = tied;
  return TinyModelImage(spec);
}

Model MustLoad(const GgufImage& image) {
  auto model = Load(image);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : Model();
}

TEST(WeightIndex, EveryArchitectureIsWholeAndNamedAsInItsFile) {
  for (const std::string arch : {"llama", "qwen2", "arcee", "nemotron", "opt"}) {
    const GgufImage image = Image(arch);
    const Model model = MustLoad(image);
    EXPECT_EQ(model.weights.all().size(), image.tensors.size()) << arch;
    for (const auto& [key, tensor] : model.weights.all()) {
      EXPECT_EQ(TensorName(key), tensor.name);
      EXPECT_EQ(model.weights.Find(key.role, key.layer), &tensor);
    }
  }
}

TEST(WeightIndex, PowerInferFilesHaveNeuronRowsAndPredictors) {
  TinyModelSpec spec;
  spec.dialect = GgufDialect::kPowerInfer;
  const Model model = MustLoad(TinyModelImage(spec));
  EXPECT_EQ(model.weights.Find(WeightRole::kFfnDown, 0), nullptr);
  ASSERT_NE(model.weights.Find(WeightRole::kFfnDownT, 1), nullptr);
  EXPECT_THAT(model.weights.Find(WeightRole::kFfnDownT, 1)->shape, ElementsAre(128, 64));
  EXPECT_THAT(model.weights.Find(WeightRole::kPredictorFc1, 1)->shape, ElementsAre(32, 64));
  for (const WeightKey& key : model.weights.KeysOf({0, 2, true, true})) {
    EXPECT_NE(key.role, WeightRole::kPredictorFc1);
    EXPECT_NE(key.role, WeightRole::kPredictorFc2);
  }
}

TEST(WeightIndex, PowerInfersNameOfTheDownBiasIsKnown) {
  TinyModelSpec spec;
  spec.arch = "opt";
  spec.dialect = GgufDialect::kPowerInfer;
  const Model model = MustLoad(TinyModelImage(spec));
  EXPECT_EQ(model.weights.Find(WeightRole::kFfnDownBias, 1)->name, "blk.1.ffn_down_t.bias");
}

TEST(WeightIndex, LearnedPositionsGoWithTheEmbedding) {
  const Model model = MustLoad(Image("opt"));
  const WeightKey table{kNoLayer, WeightRole::kPositionEmbd};
  EXPECT_THAT(model.weights.Find(table.role)->shape, ElementsAre(514, 64));
  EXPECT_THAT(model.weights.KeysOf({0, 1, true, false}), ::testing::Contains(table));
  // The head is tied to the tokens' table, not to that of the positions.
  EXPECT_THAT(model.weights.KeysOf({1, 2, false, true}),
              ::testing::Not(::testing::Contains(table)));
}

TEST(HeldAs, WhatWorkersMakeOfTheFile) {
  const auto held = [](WeightRole role, DType dtype, int64_t n_rows, int64_t n_cols, bool rows) {
    TensorInfo tensor;
    tensor.dtype = dtype;
    tensor.shape = {n_rows, n_cols};
    const HeldWeight weight = HeldAs(role, tensor, rows);
    return std::tuple(weight.dtype, weight.n_rows, weight.n_cols);
  };
  using enum WeightRole;
  EXPECT_EQ(held(kFfnDown, DType::kQ4_0, 64, 128, false), std::tuple(DType::kQ4_0, 64, 128));
  EXPECT_EQ(held(kFfnDown, DType::kQ4_0, 64, 128, true), std::tuple(DType::kQ8_0, 128, 64));
  EXPECT_EQ(held(kFfnDown, DType::kQ8_0, 64, 128, true), std::tuple(DType::kF16, 128, 64));
  EXPECT_EQ(held(kFfnDown, DType::kBF16, 64, 128, true), std::tuple(DType::kBF16, 128, 64));
  EXPECT_EQ(held(kFfnDownT, DType::kQ4_0, 128, 64, true), std::tuple(DType::kQ4_0, 128, 64));
  EXPECT_EQ(held(kFfnUp, DType::kF16, 128, 64, true), std::tuple(DType::kF16, 128, 64));
  EXPECT_EQ(held(kPredictorFc1, DType::kF16, 32, 64, true), std::tuple(DType::kQ8_0, 32, 64));
  EXPECT_EQ(held(kPredictorFc2, DType::kBF16, 128, 33, true), std::tuple(DType::kBF16, 128, 33));
  EXPECT_EQ(held(kPredictorFc2, DType::kF32, 128, 32, true), std::tuple(DType::kF32, 128, 32));
  EXPECT_EQ((HeldWeight{DType::kQ8_0, 3, 64}.size_bytes()), 3u * 68);
}

TEST(WeightIndex, PredictorsAreCountedApart) {
  TinyModelSpec spec;
  spec.dialect = GgufDialect::kPowerInfer;
  Model model = MustLoad(TinyModelImage(spec));
  const LayerRange second{1, 2, false, false};
  EXPECT_THAT(model.weights.PredictorKeysOf(second),
              ElementsAre(WeightKey{1, WeightRole::kPredictorFc1},
                          WeightKey{1, WeightRole::kPredictorFc2}));
  EXPECT_EQ(model.weights.PredictorBytesOf(second), (32u * 64 + 128u * 32) * 4);
  EXPECT_FALSE(model.weights.has_attached_predictors());
  TensorInfo smaller = *model.weights.Find(WeightRole::kPredictorFc1, 1);
  smaller.size_bytes = 12;
  model.weights.AttachPredictors({{{1, WeightRole::kPredictorFc1}, smaller}});
  EXPECT_TRUE(model.weights.has_attached_predictors());
  EXPECT_EQ(model.weights.PredictorBytesOf({0, 2, true, true}), 12u);
  EXPECT_EQ(model.weights.Find(WeightRole::kPredictorFc1, 0), nullptr);
}

// What `thermocline convert --neuron-rows` makes.
TEST(WeightIndex, EveryArchitectureMayHaveNeuronRows) {
  for (const std::string arch : {"llama", "qwen2", "arcee", "nemotron", "opt"}) {
    GgufImage image = Image(arch);
    image.RemoveTensor("blk.1.ffn_down.weight");
    image.AddZeros("blk.1.ffn_down_t.weight", DType::kF16, {128, 64});
    const Model model = MustLoad(image);
    EXPECT_EQ(model.weights.Find(WeightRole::kFfnDown, 1), nullptr) << arch;
    EXPECT_NE(model.weights.Find(WeightRole::kFfnDownT, 1), nullptr) << arch;
    EXPECT_NE(model.weights.Find(WeightRole::kFfnDown, 0), nullptr) << arch;
  }
}

TEST(WeightIndex, MatricesMayHaveAnyWeightType) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K,
                            DType::kQ5_K, DType::kQ6_K}) {
    TinyModelSpec spec;
    spec.n_layer = 1;
    spec.n_embd = 256;
    spec.n_ff = 256;
    spec.dtype = dtype;
    const Model model = MustLoad(TinyModelImage(spec));
    EXPECT_EQ(model.weights.Find(WeightRole::kFfnDown, 0)->dtype, dtype) << DTypeName(dtype);
    EXPECT_EQ(model.weights.Find(WeightRole::kFfnNorm, 0)->dtype, DType::kF32);
  }
}

TEST(WeightIndex, AbsentWeightsAreNull) {
  const Model model = MustLoad(Image("llama", true));
  EXPECT_EQ(model.weights.Find(WeightRole::kOutput), nullptr);
  EXPECT_EQ(model.weights.Find(WeightRole::kAttnQBias, 0), nullptr);
  EXPECT_EQ(model.weights.Find(WeightRole::kAttnQ, 2), nullptr);
  EXPECT_EQ(model.weights.Find(WeightRole::kAttnQ), nullptr);
}

TEST(WeightIndex, OptionalTensorsOfLlama) {
  GgufImage image = Image("llama");
  image.AddZeros("rope_freqs.weight", DType::kF32, {8});
  image.AddZeros("blk.1.attn_q.bias", DType::kF32, {64});
  image.AddZeros("blk.0.ffn_down.bias", DType::kF32, {64});
  const Model model = MustLoad(image);
  EXPECT_NE(model.weights.Find(WeightRole::kRopeFreqs), nullptr);
  EXPECT_NE(model.weights.Find(WeightRole::kAttnQBias, 1), nullptr);
  EXPECT_NE(model.weights.Find(WeightRole::kFfnDownBias, 0), nullptr);
}

// Stages that partition the layers hold every weight once, in file order, within the file.
TEST(WeightIndex, StagesPartitionTheWeights) {
  for (const std::string arch : {"llama", "nemotron"}) {
    TinyModelSpec spec;
    spec.arch = arch;
    spec.n_layer = 5;
    const Model model = MustLoad(TinyModelImage(spec));
    const LayerRange stages[] = {{0, 2, true, false}, {2, 3, false, false}, {3, 5, false, true}};
    std::set<WeightKey> seen;
    uint64_t n_bytes = 0;
    for (const LayerRange& stage : stages) {
      uint64_t previous = 0;
      for (const WeightKey& key : model.weights.KeysOf(stage)) {
        EXPECT_TRUE(seen.insert(key).second) << TensorName(key);
        const uint64_t offset = model.weights.all().at(key).offset_bytes;
        EXPECT_GT(offset, previous);
        previous = offset;
      }
      n_bytes += model.weights.BytesOf(stage);
    }
    EXPECT_EQ(seen.size(), model.weights.all().size());
    EXPECT_EQ(n_bytes, model.weights.BytesOf({0, 5, true, true}));
  }
}

TEST(WeightIndex, TheTiedHeadNeedsTheEmbedding) {
  const Model model = MustLoad(Image("llama", true));
  const auto head = model.weights.KeysOf({2, 2, false, true});
  EXPECT_THAT(head, ElementsAre(WeightKey{kNoLayer, WeightRole::kTokenEmbd},
                                WeightKey{kNoLayer, WeightRole::kOutputNorm}));
  // Held once by a stage that has both ends.
  const auto both = model.weights.KeysOf({0, 0, true, true});
  EXPECT_EQ(both, head);
}

TEST(WeightIndex, RangesMergeWhereTensorsTouch) {
  const Model model = MustLoad(Image("llama"));
  const auto ranges = model.weights.RangesOf({0, 2, true, true});
  // Every tensor of this model is a multiple of the alignment, so the file has no gaps.
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].end - ranges[0].begin, model.weights.BytesOf({0, 2, true, true}));
  const auto layer = model.weights.RangesOf({1, 2, false, false});
  ASSERT_EQ(layer.size(), 1u);
  EXPECT_EQ(layer[0].begin, model.weights.Find(WeightRole::kAttnNorm, 1)->offset_bytes);
  EXPECT_EQ(model.weights.RangesOf({0, 2, false, true}).size(), 1u);
  EXPECT_EQ(model.weights.RangesOf({0, 1, false, true}).size(), 2u);
  EXPECT_TRUE(model.weights.RangesOf({1, 1, false, false}).empty());
}

struct BadTensor {
  std::string name;
  GgufDialect dialect;
  std::function<void(GgufImage&)> mutate;
  std::string message;
};

// Replaces a tensor by zeros of another type and shape.
std::function<void(GgufImage&)> Replace(const std::string& name, DType dtype,
                                        const std::vector<int64_t>& shape) {
  return [=](GgufImage& f) {
    f.RemoveTensor(name);
    f.AddZeros(name, dtype, shape);
  };
}

std::vector<BadTensor> BadTensors() {
  constexpr auto kGguf = GgufDialect::kGguf;
  constexpr auto kPowerInfer = GgufDialect::kPowerInfer;
  return {
      {"missing", kGguf, [](GgufImage& f) { f.RemoveTensor("blk.1.attn_k.weight"); },
       "tensor is missing: blk.1.attn_k.weight"},
      {"no ffn_down", kGguf, [](GgufImage& f) { f.RemoveTensor("blk.1.ffn_down.weight"); },
       "tensor is missing: blk.1.ffn_down.weight"},
      {"ffn_down twice", kGguf,
       [](GgufImage& f) {
         f.AddZeros("blk.0.ffn_down_t.weight", DType::kF32, {128, 64});
       },
       "too many: blk.0.ffn_down.weight and blk.0.ffn_down_t.weight"},
      {"unknown", kGguf, [](GgufImage& f) { f.AddZeros("blk.0.extra.weight", DType::kF32, {4}); },
       "not part of a llama model: blk.0.extra.weight"},
      {"layer beyond the count", kGguf,
       [](GgufImage& f) { f.AddZeros("blk.2.attn_norm.weight", DType::kF32, {64}); },
       "blk.2.attn_norm.weight n_layer=2"},
      {"fused qkv", kGguf,
       [](GgufImage& f) {
         f.AddZeros("blk.0.attn_qkv.weight", DType::kF32, {128, 64});
       },
       "blk.0.attn_qkv.weight"},
      {"shape", kGguf, Replace("blk.0.attn_k.weight", DType::kF32, {64, 64}),
       "blk.0.attn_k.weight shape=[64, 64] wanted=[n_head_kv*head_dim=32, n_embd=64]"},
      {"transposed", kGguf, Replace("blk.0.ffn_down.weight", DType::kF32, {128, 64}),
       "wrong shape: blk.0.ffn_down.weight"},
      {"norm of two dimensions", kGguf, Replace("output_norm.weight", DType::kF32, {1, 64}),
       "output_norm.weight shape=[1, 64] wanted=[n_embd=64]"},
      {"F16 norm", kGguf, Replace("blk.1.ffn_norm.weight", DType::kF16, {64}),
       "must be F32: blk.1.ffn_norm.weight type=F16"},
      {"integer weights", kGguf, Replace("blk.1.attn_q.weight", DType::kI32, {64, 64}),
       "weights cannot be I32: blk.1.attn_q.weight"},
      {"ffn_down in a PowerInfer file", kPowerInfer,
       [](GgufImage& f) {
         f.AddZeros("blk.0.ffn_down.weight", DType::kF32, {64, 128});
       },
       "blk.0.ffn_down.weight"},
      {"half a predictor", kPowerInfer, [](GgufImage& f) { f.RemoveTensor("blk.1.fc2.weight"); },
       "half a predictor: blk.1.fc1.weight"},
      {"predictor halves", kPowerInfer, Replace("blk.1.fc2.weight", DType::kF32, {128, 16}),
       "predictor halves do not fit"},
      {"predictor shape", kPowerInfer, Replace("blk.1.fc2.weight", DType::kF32, {64, 32}),
       "wanted=[n_ff=128, n_predictor]"},
  };
}

TEST(WeightIndex, BadTensorsAreNamed) {
  for (const BadTensor& bad : BadTensors()) {
    TinyModelSpec spec;
    spec.dialect = bad.dialect;
    GgufImage image = TinyModelImage(spec);
    bad.mutate(image);
    const auto model = Load(image);
    ASSERT_FALSE(model.ok()) << bad.name;
    EXPECT_EQ(model.status().code(), StatusCode::kInvalidArgument) << bad.name;
    EXPECT_THAT(model.status().message(), HasSubstr(bad.message)) << bad.name;
  }
}

}  // namespace
}  // namespace thermocline::model
