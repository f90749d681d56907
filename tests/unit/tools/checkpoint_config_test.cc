#include "tools/convert/checkpoint_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using thermocline::testing::IsOk;

json Llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"max_position_embeddings", 512},
          {"vocab_size", 300},
          {"rms_norm_eps", 1e-6},
          {"hidden_act", "silu"}};
}

std::string ErrorOf(const json& config) {
  const auto result = ReadCheckpointConfig(config);
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
  return result.status().message();
}

TEST(CheckpointConfig, DefaultsAreThoseOfTheLayout) {
  const auto config = ReadCheckpointConfig(Llama());
  ASSERT_THAT(config.status(), IsOk());
  EXPECT_EQ(config->layout->arch, "llama");
  EXPECT_EQ(config->n_head_kv, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->n_rot, 16);
  EXPECT_EQ(config->rope_base, 10000);
  EXPECT_FALSE(config->tied);
  EXPECT_TRUE(config->rope_divisors.empty());
}

json Opt() {
  return {{"architectures", {"OPTForCausalLM"}},
          {"hidden_size", 60},
          {"ffn_dim", 128},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"max_position_embeddings", 512},
          {"vocab_size", 300},
          {"word_embed_proj_dim", 60},
          {"do_layer_norm_before", true},
          {"activation_function", "relu"}};
}

TEST(CheckpointConfig, OptHasFieldsOfItsOwn) {
  const auto config = ReadCheckpointConfig(Opt());
  ASSERT_THAT(config.status(), IsOk());
  EXPECT_EQ(config->layout->arch, "opt");
  EXPECT_EQ(config->n_ff, 128);
  EXPECT_EQ(config->head_dim, 15);  // nothing is rotated by pairs
  EXPECT_EQ(config->activation, "relu");
  EXPECT_TRUE(config->tied);
  EXPECT_EQ(config->norm_eps, 1e-5);
  model::GgufMetadata metadata;
  SetConfigMetadata(*config, "name", &metadata);
  EXPECT_TRUE(metadata.Has("opt.attention.layer_norm_epsilon"));
  EXPECT_FALSE(metadata.Has("opt.rope.dimension_count"));
}

TEST(CheckpointConfig, OptWithAnotherGraphIsRefused) {
  const std::pair<const char*, bool> switches[] = {{"do_layer_norm_before", false},
                                                   {"_remove_final_layer_norm", true},
                                                   {"enable_bias", false},
                                                   {"layer_norm_elementwise_affine", false}};
  for (const auto& [field, value] : switches) {
    json config = Opt();
    config[field] = value;
    EXPECT_THAT(ErrorOf(config), HasSubstr(field));
  }
  json config = Opt();
  config["word_embed_proj_dim"] = 30;
  EXPECT_THAT(ErrorOf(config), HasSubstr("word_embed_proj_dim=30 hidden_size=60"));
  config = Opt();
  config["activation_function"] = "gelu";
  EXPECT_THAT(ErrorOf(config), HasSubstr("activation_function \"gelu\"; supported by opt: relu"));
  config = Opt();
  config.erase("ffn_dim");
  EXPECT_THAT(ErrorOf(config), HasSubstr("ffn_dim"));
}

TEST(CheckpointConfig, UnknownThingsAreNamed) {
  json config = Llama();
  config["architectures"] = {"GPTBigCodeForCausalLM"};
  EXPECT_THAT(ErrorOf(config), HasSubstr("GPTBigCodeForCausalLM"));
  config.erase("architectures");
  EXPECT_THAT(ErrorOf(config), HasSubstr("unsupported architecture"));
  config = Llama();
  config["hidden_act"] = "gelu";
  EXPECT_THAT(ErrorOf(config), HasSubstr("gelu"));
  config = Llama();
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4}};
  EXPECT_THAT(ErrorOf(config), HasSubstr("yarn"));
  config = Llama();
  config["hidden_size"] = "64";
  EXPECT_THAT(ErrorOf(config), HasSubstr("hidden_size"));
  config.erase("hidden_size");
  EXPECT_THAT(ErrorOf(config), HasSubstr("lacks a field: hidden_size"));
  config = Llama();
  config["num_hidden_layers"] = -1;
  EXPECT_THAT(ErrorOf(config), HasSubstr("num_hidden_layers value=-1"));
}

TEST(CheckpointConfig, ReluOfAGatedModelIsKept) {
  json config = Llama();
  config["hidden_act"] = "relu";
  const auto read = ReadCheckpointConfig(config);
  ASSERT_THAT(read.status(), IsOk());
  model::GgufMetadata metadata;
  SetConfigMetadata(*read, "x", &metadata);
  EXPECT_TRUE(metadata.Has("llama.hidden_activation"));
}

TEST(CheckpointConfig, NemotronRotatesAPartOfEachHead) {
  json config = Llama();
  config["architectures"] = {"NemotronForCausalLM"};
  config["hidden_act"] = "relu2";
  config["norm_eps"] = 1e-5;
  config["partial_rotary_factor"] = 0.5;
  const auto read = ReadCheckpointConfig(config);
  ASSERT_THAT(read.status(), IsOk());
  EXPECT_EQ(read->n_rot, 8);
  EXPECT_EQ(read->layout->norm_add, 1);
}

TEST(CheckpointConfig, SlidingWindowShortensTheContext) {
  json config = Llama();
  config["sliding_window"] = 128;
  EXPECT_EQ(ReadCheckpointConfig(config)->n_ctx, 128);
  config["use_sliding_window"] = false;
  EXPECT_EQ(ReadCheckpointConfig(config)->n_ctx, 512);
}

// The ends and the middle of Llama 3.1's own setting (head_dim 128, base 500000).
TEST(CheckpointConfig, LlamaScalingTurnsSlowWavesSlower) {
  json config = Llama();
  config["hidden_size"] = 512;
  config["rope_theta"] = 500000.0;
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8192}};
  const auto read = ReadCheckpointConfig(config);
  ASSERT_THAT(read.status(), IsOk());
  ASSERT_EQ(read->rope_divisors.size(), 64u);
  EXPECT_EQ(read->rope_divisors.front(), 1);
  EXPECT_EQ(read->rope_divisors.back(), 8);
  // Pair 32: wavelength 2 pi sqrt(500000) = 4443, 8192 / 4443 = 1.8439 turns, so 0.28129 of the
  // way from the slow to the fast end.
  EXPECT_NEAR(read->rope_divisors[32], 1 / ((1 - 0.28129) / 8 + 0.28129), 1e-3);
}

}  // namespace
}  // namespace thermocline::tools
