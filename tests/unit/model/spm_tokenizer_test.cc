#include "model/spm_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <limits>
#include <random>
#include <string>

#include "tests/support/test_paths.h"
#include "tests/support/tiny_tokenizers.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::TinySpm;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};
constexpr EncodeOptions kParsed{.add_special = false, .parse_special = true};

std::unique_ptr<Tokenizer> Make(TokenizerData data) {
  auto tokenizer = MakeTokenizer(std::move(data));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::string Texts(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options) {
  std::string out;
  for (const int32_t id : tokenizer.Encode(text, options)) {
    out += (out.empty() ? "" : " ") + std::string(tokenizer.TokenText(id));
  }
  return out;
}

// The vocabulary of a SentencePiece model, as a GGUF converter would write it.
TokenizerData DataOf(const sentencepiece::SentencePieceProcessor& oracle) {
  TokenizerData data;
  data.model = "llama";
  for (int id = 0; id < oracle.GetPieceSize(); ++id) {
    data.tokens.push_back(oracle.IdToPiece(id));
    data.scores.push_back(oracle.GetScore(id));
    const TokenType type = oracle.IsUnknown(id)   ? TokenType::kUnknown
                           : oracle.IsControl(id) ? TokenType::kControl
                           : oracle.IsByte(id)    ? TokenType::kByte
                                                  : TokenType::kNormal;
    data.types.push_back(static_cast<int64_t>(type));
  }
  return data;
}

std::string RandomText(uint32_t seed) {
  static const std::vector<std::string> kPieces = {
      " ",    "  ",          "     ",  "\n",   "\n\n",  "\t",     "the", " water", "warm",
      "fish", "a",           "x",      "é",    "è",     "Größe",  "水",  "泳ぐ",   "река",
      "🐟",    "👩‍🚀", "\u00a0", "0",    "42",    "...",    "!?",  "'s",     "\"",
      "{",    "}",           "<s>",    "</s>", "<unk>", "<0x41>", "_",   "~",      "ﬁ"};
  std::mt19937 rng(seed);
  std::string text;
  for (int n = static_cast<int>(rng() % 16); n > 0; --n) text += kPieces[rng() % kPieces.size()];
  return text;
}

class SpmOracle : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(oracle_.Load(testing::TestDataPath("spm_tiny.model")).ok());
    tokenizer_ = Make(DataOf(oracle_));
  }
  void Compare(const std::string& text) {
    const std::vector<int> expected = oracle_.EncodeAsIds(text);
    const auto ids = tokenizer_->Encode(text, kPlain);
    ASSERT_EQ(ids, std::vector<int32_t>(expected.begin(), expected.end()))
        << ::testing::PrintToString(text);
    ASSERT_EQ(tokenizer_->Decode(ids, false), text);
  }

  sentencepiece::SentencePieceProcessor oracle_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SpmOracle, AgreesWithSentencePieceOnChosenTexts) {
  for (const char* text : {"", " ", "  ", "a", " a", "a ", "The water was warm.", "\n", "\t\t",
                           "The river was cold near the bottom", "水は冷たい。", "🐟🐟", "12345"}) {
    Compare(text);
  }
}

TEST_F(SpmOracle, AgreesWithSentencePieceOnRandomTexts) {
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(seed);
    Compare(RandomText(seed));
    if (HasFatalFailure()) return;
  }
}

TEST(SpmTokenizer, MergesTheBestScoreFirstThenTheLeftmost) {
  const auto tokenizer = Make(TinySpm());
  EXPECT_EQ(Texts(*tokenizer, "hello world", kPlain), "▁hello ▁world");
  EXPECT_EQ(Texts(*tokenizer, "lll", kPlain), "▁ ll l");
  EXPECT_EQ(Texts(*tokenizer, "", kPlain), "");
}

TEST(SpmTokenizer, WhatNoPieceCoversBecomesBytesOrUnknown) {
  TokenizerData data = TinySpm();
  EXPECT_EQ(Texts(*Make(data), "hé", kPlain), "▁h <0xC3> <0xA9>");
  EXPECT_EQ(Texts(*Make(data), "h\xFF", kPlain), "▁h <0xFF>");
  data.types[3 + 0xA9] = static_cast<int64_t>(TokenType::kUnused);
  EXPECT_EQ(Texts(*Make(data), "hé", kPlain), "▁h <unk>");
}

TEST(SpmTokenizer, TextNeverSpellsSpecialTokens) {
  const auto tokenizer = Make(TinySpm());
  for (const int32_t id : tokenizer->Encode("<s></s><unk><0x41><|im_end|>", kPlain)) {
    EXPECT_NE(tokenizer->Type(id), TokenType::kControl);
    EXPECT_NE(tokenizer->Type(id), TokenType::kUnknown);
    EXPECT_NE(tokenizer->TokenText(id), "<0x41>x");
  }
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("<0x41>", kPlain), false), "<0x41>");
}

// A space goes before the first text and before each text after a special token, as in llama.cpp.
TEST(SpmTokenizer, SpacePrefixFollowsSpecialTokens) {
  TokenizerData data = TinySpm();
  EXPECT_EQ(Texts(*Make(data), "hello<sep>hello", kPlain), "▁hello <sep> ▁hello");
  EXPECT_EQ(Texts(*Make(data), "<s>hello</s>", kParsed), "<s> ▁hello </s>");
  data.add_space_prefix = false;
  EXPECT_EQ(Texts(*Make(data), "hello<sep>hello", kPlain), "hello <sep> hello");
  EXPECT_EQ(Make(data)->Decode(Make(data)->Encode(" hello", kPlain), false), " hello");
}

TEST(SpmTokenizer, BosAndEosFollowTheFileAndTheCaller) {
  TokenizerData data = TinySpm();
  EXPECT_EQ(Texts(*Make(data), "hello", {}), "<s> ▁hello");
  EXPECT_EQ(Texts(*Make(data), "", {}), "<s>");
  data.add_eos = true;
  EXPECT_EQ(Texts(*Make(data), "hello", {}), "<s> ▁hello </s>");
  data.add_bos = false;
  EXPECT_EQ(Texts(*Make(data), "hello", {}), "▁hello </s>");
  EXPECT_EQ(Texts(*Make(data), "hello", kPlain), "▁hello");
}

TEST(SpmTokenizer, DecodeDropsTheSpaceOfTheFirstTextOnly) {
  const auto tokenizer = Make(TinySpm());
  const auto ids = tokenizer->Encode("hello world", {});
  EXPECT_EQ(tokenizer->Decode(ids, false), "hello world");
  EXPECT_EQ(tokenizer->Decode(ids, true), "<s>hello world");
  EXPECT_EQ(tokenizer->TokenBytes(ids[1], false), " hello");
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("  hello", {}), false), "  hello");
}

TEST(SpmTokenizer, WithoutTypesBytesAndSpecialTokensAreKnownByTextAndId) {
  TokenizerData data = TinySpm();
  data.types.clear();
  const auto tokenizer = Make(data);
  EXPECT_EQ(Texts(*tokenizer, "é", kPlain), "▁ <0xC3> <0xA9>");
  EXPECT_EQ(tokenizer->Type(1), TokenType::kControl);
  EXPECT_EQ(tokenizer->Type(0), TokenType::kUnknown);
}

TEST(SpmTokenizer, ScoresMustMatchTheTokens) {
  TokenizerData data = TinySpm();
  data.scores.pop_back();
  EXPECT_THAT(MakeTokenizer(data).status().message(), HasSubstr("tokenizer.ggml.scores"));
  data = TinySpm();
  data.scores[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(MakeTokenizer(data).status().message(), HasSubstr("token=5"));
}

// A quadratic merge loop would need 10^11 steps here.
TEST(SpmTokenizer, LongRunsOfOneLetterAreTokenised) {
  constexpr size_t kLength = size_t{1} << 18;
  TokenizerData data = TinySpm();
  data.add_space_prefix = false;
  const auto tokenizer = Make(data);
  EXPECT_EQ(tokenizer->Encode(std::string(kLength, 'l'), kPlain).size(), kLength / 2);
  EXPECT_EQ(tokenizer->Encode(std::string(kLength, ' '), kPlain).size(), kLength / 2);
  EXPECT_EQ(tokenizer->Encode(std::string(kLength, 'z'), kPlain).size(), kLength);
}

}  // namespace
}  // namespace thermocline::model
