#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/str.h"
#include "tests/support/tiny_model.h"

namespace thermocline::model {
namespace {

using testing::GgufImage;
using ::testing::HasSubstr;
using testing::TinyModelSpec;

Result<ModelConfig> ConfigOf(const GgufImage& image) {
  const auto bytes = image.Bytes();
  TC_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(*ReadFromMemory(bytes, "image")));
  return ModelConfig::FromGguf(file);
}

GgufImage Image(const std::string& arch) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.n_layer = 1;
  return TinyModelImage(spec);
}

ModelConfig ConfigOf(const TinyModelSpec& spec) {
  auto config = ConfigOf(TinyModelImage(spec));
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig();
}

TEST(ModelConfig, SizesComeFromTheKeys) {
  TinyModelSpec spec;
  spec.n_layer = 3;
  const ModelConfig config = ConfigOf(spec);
  EXPECT_EQ(config.arch_name, "llama");
  EXPECT_EQ(config.name, "tiny-llama");
  EXPECT_EQ(config.n_layer, 3);
  EXPECT_EQ(config.n_embd, 64);
  EXPECT_EQ(config.n_ff, 128);
  EXPECT_EQ(config.n_head, 4);
  EXPECT_EQ(config.n_head_kv, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.n_vocab, 288);
  EXPECT_EQ(config.n_ctx_train, 512);
  EXPECT_EQ(config.n_embd_kv(), 32);
  EXPECT_FLOAT_EQ(config.norm_eps, 1e-5f);
  EXPECT_FLOAT_EQ(config.attention_scale, 0.25f);
  EXPECT_FALSE(config.tied_embeddings);
}

TEST(ModelConfig, ArchitecturesDiffer) {
  TinyModelSpec spec;
  const ModelConfig llama = ConfigOf(spec);
  EXPECT_EQ(llama.norm, NormKind::kRms);
  EXPECT_EQ(llama.rope.pairing, RopePairing::kAdjacent);
  EXPECT_EQ(llama.rope.n_rot, 16);
  EXPECT_EQ(llama.activation, Activation::kSilu);
  EXPECT_TRUE(llama.ffn_gated);
  EXPECT_FALSE(llama.relu_family());

  spec.arch = "qwen2";
  const ModelConfig qwen2 = ConfigOf(spec);
  EXPECT_EQ(qwen2.rope.pairing, RopePairing::kHalves);
  EXPECT_EQ(qwen2.activation, Activation::kSilu);

  spec.arch = "arcee";
  const ModelConfig arcee = ConfigOf(spec);
  EXPECT_EQ(arcee.norm, NormKind::kRms);
  EXPECT_EQ(arcee.rope.pairing, RopePairing::kAdjacent);
  EXPECT_EQ(arcee.activation, Activation::kReluSquared);
  EXPECT_FALSE(arcee.ffn_gated);

  spec.arch = "nemotron";
  const ModelConfig nemotron = ConfigOf(spec);
  EXPECT_EQ(nemotron.norm, NormKind::kLayer);
  EXPECT_EQ(nemotron.rope.pairing, RopePairing::kHalves);
  EXPECT_EQ(nemotron.rope.n_rot, 8);
  EXPECT_TRUE(nemotron.relu_family());
}

TEST(ModelConfig, PowerInfersLlamaIsReGlu) {
  TinyModelSpec spec;
  spec.dialect = GgufDialect::kPowerInfer;
  const ModelConfig config = ConfigOf(spec);
  EXPECT_EQ(config.dialect, GgufDialect::kPowerInfer);
  EXPECT_EQ(config.activation, Activation::kRelu);
  EXPECT_TRUE(config.ffn_gated);
}

TEST(ModelConfig, OptLearnsItsPositions) {
  TinyModelSpec spec;
  spec.arch = "opt";
  for (const auto dialect : {GgufDialect::kGguf, GgufDialect::kPowerInfer}) {
    spec.dialect = dialect;
    const ModelConfig config = ConfigOf(spec);
    EXPECT_EQ(config.norm, NormKind::kLayer);
    EXPECT_EQ(config.activation, Activation::kRelu);
    EXPECT_FALSE(config.ffn_gated);
    EXPECT_TRUE(config.tied_embeddings);
    EXPECT_EQ(config.rope.n_rot, 0);
    EXPECT_EQ(config.n_position_rows, 514);
    EXPECT_EQ(config.position_offset, 2);
    EXPECT_EQ(config.n_ctx_train, 512);
  }
}

TEST(ModelConfig, PowerInfersOptCountsTheTablesRowsAndHasNoEps) {
  GgufImage image = Image("opt");
  image.RemoveKey("opt.context_length");
  image.AddU32("opt.context_length", 514);
  image.RemoveKey("opt.attention.layer_norm_epsilon");
  const auto config = ConfigOf(image);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_ctx_train, 512);
  EXPECT_FLOAT_EQ(config->norm_eps, 1e-5f);
}

TEST(ModelConfig, ATableOfPositionsEndsTheContext) {
  const auto opt = ConfigOf(Image("opt"));
  EXPECT_TRUE(CheckContext(*opt, 512).ok());
  EXPECT_EQ(CheckContext(*opt, 513).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(CheckContext(*ConfigOf(Image("llama")), 1 << 20).ok());
}

TEST(ModelConfig, BambooActivatesGateAndUp) {
  TinyModelSpec spec;
  spec.arch = "bamboo";
  for (const auto dialect : {GgufDialect::kGguf, GgufDialect::kPowerInfer}) {
    spec.dialect = dialect;
    const ModelConfig config = ConfigOf(spec);
    EXPECT_EQ(config.activation, Activation::kRelu);
    EXPECT_TRUE(config.ffn_gated);
    EXPECT_TRUE(config.ffn_up_activated);
    EXPECT_EQ(config.rope.pairing, RopePairing::kAdjacent);
  }
}

TEST(ModelConfig, TheFileMayNameItsActivation) {
  TinyModelSpec spec;
  spec.activation = "relu";
  EXPECT_EQ(ConfigOf(spec).activation, Activation::kRelu);
  spec.activation = "silu";
  EXPECT_EQ(ConfigOf(spec).activation, Activation::kSilu);
  spec.arch = "arcee";
  spec.activation = "relu2";
  EXPECT_EQ(ConfigOf(spec).activation, Activation::kReluSquared);
  GgufImage image = Image("qwen2");
  image.AddString("qwen2.activation_function", "relu");
  EXPECT_EQ(ConfigOf(image)->activation, Activation::kRelu);
}

TEST(ModelConfig, WithoutOutputWeightTheEmbeddingsAreTied) {
  TinyModelSpec spec;
  spec.tied = true;
  EXPECT_TRUE(ConfigOf(spec).tied_embeddings);
}

TEST(ModelConfig, DefaultsOfAbsentKeys) {
  GgufImage image = Image("llama");
  image.RemoveKey("llama.attention.head_count_kv");
  image.RemoveKey("llama.rope.dimension_count");
  image.RemoveKey("general.name");
  const auto config = ConfigOf(image);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_head_kv, 4);
  EXPECT_EQ(config->rope.n_rot, 16);
  EXPECT_EQ(config->rope.freq_base, 10000.0f);
  EXPECT_EQ(config->rope.freq_scale, 1.0f);
}

TEST(ModelConfig, PerLayerArraysOfEqualEntriesAreOneValue) {
  GgufImage image = Image("llama");
  image.RemoveKey("llama.attention.head_count");
  image.AddU32s("llama.attention.head_count", {4, 4, 4});
  EXPECT_EQ(ConfigOf(image)->n_head, 4);
}

TEST(ModelConfig, HeadLengthsMayBeGiven) {
  GgufImage image = Image("llama");
  image.AddU32("llama.attention.key_length", 32).AddU32("llama.attention.value_length", 32);
  image.AddF32("llama.attention.scale", 0.5f);
  const auto config = ConfigOf(image);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->n_embd_q(), 128);
  EXPECT_EQ(config->attention_scale, 0.5f);
}

TEST(ModelConfig, VocabularyWithoutATokenizer) {
  GgufImage image = Image("llama");
  image.RemoveKey("tokenizer.ggml.tokens");
  image.AddU32("llama.vocab_size", 288);
  EXPECT_EQ(ConfigOf(image)->n_vocab, 288);
}

TEST(ModelConfig, RopeScaling) {
  const auto scale_with = [](const std::function<void(GgufImage&)>& mutate) {
    TinyModelSpec spec;
    spec.rope_freqs = true;
    GgufImage image = TinyModelImage(spec);
    mutate(image);
    const auto config = ConfigOf(image);
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->rope.freq_scale : NAN;
  };
  EXPECT_EQ(scale_with([](GgufImage& f) { f.AddF32("llama.rope.scaling.factor", 4); }), 0.25f);
  EXPECT_EQ(scale_with([](GgufImage& f) { f.AddF32("llama.rope.scale_linear", 2); }), 0.5f);
  EXPECT_EQ(scale_with([](GgufImage& f) { f.AddF32("llama.rope.scaling.factor", 0); }), 1.0f);
  EXPECT_EQ(scale_with([](GgufImage& f) {
              f.AddString("llama.rope.scaling.type", "none").AddF32("llama.rope.scaling.factor", 4);
            }),
            1.0f);
  EXPECT_EQ(
      scale_with([](GgufImage& f) {
        f.AddString("llama.rope.scaling.type", "llama3").AddF32("llama.rope.scaling.factor", 8);
      }),
      1.0f);
}

struct BadKey {
  std::string name;
  std::string arch;
  std::function<void(GgufImage&)> mutate;
  std::string message;
};

std::function<void(GgufImage&)> ReplaceU32(const std::string& key, uint32_t value) {
  return [=](GgufImage& f) {
    f.RemoveKey(key);
    f.AddU32(key, value);
  };
}
std::function<void(GgufImage&)> Remove(const std::string& key) {
  return [=](GgufImage& f) { f.RemoveKey(key); };
}
std::function<void(GgufImage&)> Rename(const std::string& arch) {
  return [=](GgufImage& f) { f.Key("general.architecture").payload = testing::PackedString(arch); };
}

std::vector<BadKey> BadKeys() {
  const std::string per_layer = "llama.attention.head_count";
  std::vector<BadKey> cases = {
      {"no architecture", "llama", Remove("general.architecture"), "general.architecture"},
      {"falcon", "llama", Rename("falcon"),
       "\"falcon\"; supported: llama qwen2 arcee nemotron bamboo opt"},
      {"no table of positions", "opt", [](GgufImage& f) { f.RemoveTensor("position_embd.weight"); },
       "tensor is missing: position_embd.weight"},
      {"only the rows before position 0", "opt",
       [](GgufImage& f) {
         f.RemoveTensor("position_embd.weight");
         f.AddZeros("position_embd.weight", DType::kF32, {2, 64});
       },
       "position_embd.weight rows=2"},
      {"arcee in a PowerInfer file", "arcee", [](GgufImage& f) { f.magic = "PWRI"; },
       "in a PowerInfer file: \"arcee\"; supported there: llama bamboo opt"},
      {"heads differ", "llama",
       [=](GgufImage& f) {
         f.RemoveKey(per_layer);
         f.AddU32s(per_layer, {4, 2});
       },
       "layers that differ are not supported: llama.attention.head_count"},
      {"no heads", "llama",
       [=](GgufImage& f) {
         f.RemoveKey(per_layer);
         f.AddU32s(per_layer, {});
       },
       "array is empty: llama.attention.head_count"},
      {"head_count 0", "llama", ReplaceU32(per_layer, 0), per_layer + " value=0"},
      {"head_count no divisor", "llama", ReplaceU32(per_layer, 6), "llama.embedding_length"},
      {"kv heads no divisor", "llama", ReplaceU32("llama.attention.head_count_kv", 3),
       "head_count_kv=3"},
      {"text for a number", "llama",
       [](GgufImage& f) {
         f.RemoveKey("llama.block_count");
         f.AddString("llama.block_count", "2");
       },
       "wrong type: llama.block_count"},
      {"value_length", "llama", [](GgufImage& f) { f.AddU32("llama.attention.value_length", 8); },
       "llama.attention.value_length"},
      {"odd rotation", "llama", ReplaceU32("llama.rope.dimension_count", 5),
       "llama.rope.dimension_count"},
      {"rotation beyond the head", "llama", ReplaceU32("llama.rope.dimension_count", 18),
       "llama.rope.dimension_count value=18"},
      {"yarn", "llama", [](GgufImage& f) { f.AddString("llama.rope.scaling.type", "yarn"); },
       "\"yarn\""},
      {"llama3 without divisors", "llama",
       [](GgufImage& f) { f.AddString("llama.rope.scaling.type", "llama3"); }, "rope_freqs"},
      {"negative scaling", "llama", [](GgufImage& f) { f.AddF32("llama.rope.scaling.factor", -1); },
       "llama.rope.scaling.factor"},
      {"tiny scaling", "llama", [](GgufImage& f) { f.AddF32("llama.rope.scaling.factor", 1e-45f); },
       "llama.rope.scaling.factor"},
      {"freq_base 0", "llama", [](GgufImage& f) { f.AddF32("llama.rope.freq_base", 0); },
       "llama.rope.freq_base"},
      {"freq_base NaN", "llama", [](GgufImage& f) { f.AddF32("llama.rope.freq_base", NAN); },
       "not finite: llama.rope.freq_base"},
      {"eps missing", "llama", Remove("llama.attention.layer_norm_rms_epsilon"),
       "llama.attention.layer_norm_rms_epsilon"},
      {"nemotron's eps missing", "nemotron", Remove("nemotron.attention.layer_norm_epsilon"),
       "nemotron.attention.layer_norm_epsilon"},
      {"negative scale", "llama", [](GgufImage& f) { f.AddF32("llama.attention.scale", -1); },
       "llama.attention.scale"},
      {"not causal", "llama", [](GgufImage& f) { f.AddBool("llama.attention.causal", false); },
       "llama.attention.causal"},
      {"experts", "llama", [](GgufImage& f) { f.AddU32("llama.expert_count", 8); },
       "llama.expert_count value=8"},
      {"gelu", "llama", [](GgufImage& f) { f.AddString("llama.hidden_activation", "gelu"); },
       "llama.hidden_activation \"gelu\""},
      {"gated relu2", "llama",
       [](GgufImage& f) { f.AddString("llama.hidden_activation", "relu2"); }, "\"relu2\""},
      {"ungated silu", "arcee",
       [](GgufImage& f) { f.AddString("arcee.hidden_activation", "silu"); }, "\"silu\""},
      {"no vocabulary", "llama", Remove("tokenizer.ggml.tokens"), "llama.vocab_size"},
      {"vocabulary differs", "llama",
       [](GgufImage& f) {
         f.RemoveKey("tokenizer.ggml.tokens");
         f.AddStrings("tokenizer.ggml.tokens", {"a", "b"});
       },
       "n_vocab=2 rows=288"},
      {"empty vocabulary", "llama",
       [](GgufImage& f) {
         f.RemoveKey("tokenizer.ggml.tokens");
         f.AddStrings("tokenizer.ggml.tokens", {});
       },
       "tokenizer.ggml.tokens"},
  };
  const std::pair<const char*, int> limits[] = {{"block_count", kMaxLayers},
                                                {"embedding_length", kMaxEmbd},
                                                {"feed_forward_length", kMaxFf},
                                                {"context_length", kMaxContext},
                                                {"attention.head_count", kMaxHeads}};
  for (const auto& [suffix, limit] : limits) {
    const std::string key = Str("llama.", suffix);
    cases.push_back({key + " missing", "llama", Remove(key), key});
    cases.push_back({key + " too large", "llama", ReplaceU32(key, static_cast<uint32_t>(limit) + 1),
                     key + " value="});
    cases.push_back({key + " wraps an int", "llama", ReplaceU32(key, ~0u), key + " value="});
  }
  return cases;
}

TEST(ModelConfig, BadKeysAreNamed) {
  for (const BadKey& bad : BadKeys()) {
    GgufImage image = Image(bad.arch);
    bad.mutate(image);
    const auto config = ConfigOf(image);
    ASSERT_FALSE(config.ok()) << bad.name;
    EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument) << bad.name;
    EXPECT_THAT(config.status().message(), HasSubstr(bad.message)) << bad.name;
  }
}

}  // namespace
}  // namespace thermocline::model
