#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/status_matchers.h"
#include "tools/synth/flags.h"

namespace thermocline::tools {
namespace {

using ::testing::HasSubstr;
using thermocline::testing::IsOk;

SynthFlags Flags(const std::string& shape = "") {
  SynthFlags flags;
  flags.output = "x.gguf";
  flags.shape = shape;
  return flags;
}

std::string ErrorOf(const SynthFlags& flags) {
  const auto options = ReadSynthFlags(flags);
  EXPECT_EQ(options.status().code(), StatusCode::kInvalidArgument);
  return options.status().message();
}

TEST(SynthFlags, SizesNotNamedKeepTheirDefaults) {
  const auto options = ReadSynthFlags(Flags("n_layer=2,n_vocab=1K"));
  ASSERT_THAT(options.status(), IsOk());
  EXPECT_EQ(options->shape.n_layer, 2);
  EXPECT_EQ(options->shape.n_vocab, 1024);
  EXPECT_EQ(options->shape.n_embd, 2048);
  EXPECT_EQ(options->arch, "arcee");
}

TEST(SynthFlags, PowerInferMeansLlama) {
  SynthFlags flags = Flags();
  flags.powerinfer = true;
  const auto options = ReadSynthFlags(flags);
  ASSERT_THAT(options.status(), IsOk());
  EXPECT_EQ(options->arch, "llama");
  EXPECT_EQ(options->predictor_dtype, DType::kF16);
}

TEST(SynthFlags, PowerInferMayBeOpt) {
  SynthFlags flags = Flags();
  flags.powerinfer = true;
  flags.arch = "opt";
  const auto options = ReadSynthFlags(flags);
  ASSERT_THAT(options.status(), IsOk());
  EXPECT_TRUE(options->is_opt());
  EXPECT_FALSE(options->gated());
}

TEST(SynthFlags, WhatDoesNotFitIsNamed) {
  EXPECT_THAT(ErrorOf(Flags("n_embed=64")), HasSubstr("n_embed=64"));
  EXPECT_THAT(ErrorOf(Flags("n_layer")), HasSubstr("\"n_layer\""));
  EXPECT_THAT(ErrorOf(Flags("n_layer=x")), HasSubstr("--shape n_layer"));
  EXPECT_THAT(ErrorOf(Flags("n_layer=0")), HasSubstr("n_layer value=0"));
  EXPECT_THAT(ErrorOf(Flags("n_head=3")), HasSubstr("n_head=3"));
  EXPECT_THAT(ErrorOf(Flags("n_vocab=100")), HasSubstr("n_vocab value=100 min=259"));
  SynthFlags flags = Flags("n_embd=320,n_head=4,n_head_kv=4");
  flags.dtype = "q4_k";
  EXPECT_THAT(ErrorOf(flags), HasSubstr("n_embd=320 block=256"));
  flags = Flags();
  flags.density = 1.5;
  EXPECT_THAT(ErrorOf(flags), HasSubstr("--density"));
  flags = Flags();
  flags.arch = "qwen2";
  EXPECT_THAT(ErrorOf(flags), HasSubstr("qwen2"));
  flags = Flags();
  flags.powerinfer = true;
  flags.n_predictor = 100;
  EXPECT_THAT(ErrorOf(flags), HasSubstr("--predictor"));
  flags.n_predictor = 512;
  flags.dtype = "bf16";
  EXPECT_THAT(ErrorOf(flags), HasSubstr("BF16"));
  flags.dtype = "f16";
  flags.arch = "arcee";
  EXPECT_THAT(ErrorOf(flags), HasSubstr("--pwri"));
}

}  // namespace
}  // namespace thermocline::tools
