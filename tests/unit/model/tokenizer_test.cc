#include "model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/config.h"
#include "model/vocabulary.h"
#include "tests/support/tiny_tokenizers.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::TinyBpe;
using thermocline::testing::TinySpm;

std::string ErrorOf(TokenizerData data) {
  const auto tokenizer = MakeTokenizer(std::move(data));
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kInvalidArgument);
  return tokenizer.status().message();
}

int32_t IdOf(const TokenizerData& data, std::string_view text) {
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (data.tokens[i] == text) return static_cast<int32_t>(i);
  }
  return -1;
}

TEST(MakeTokenizer, AnUnknownModelIsNamed) {
  TokenizerData data = TinySpm();
  data.model = "t5";
  EXPECT_THAT(ErrorOf(data), HasSubstr("tokenizer.ggml.model=\"t5\" supported=\"llama, gpt2\""));
}

TEST(MakeTokenizer, ArraysMustHaveTheLengthOfTheVocabulary) {
  for (TokenizerData data : {TinySpm(), TinyBpe("gpt-2")}) {
    data.types.pop_back();
    EXPECT_THAT(ErrorOf(data), HasSubstr("tokenizer.ggml.token_type"));
    data.tokens.clear();
    data.scores.clear();
    EXPECT_THAT(ErrorOf(data), HasSubstr("tokenizer.ggml.tokens is empty"));
  }
}

TEST(MakeTokenizer, TokenTypesTextsAndCountsAreBounded) {
  TokenizerData data = TinyBpe("gpt-2");
  data.types[7] = 9;
  EXPECT_THAT(ErrorOf(data), HasSubstr("unknown token type: token=7 type=9"));
  data.types[7] = -1;
  EXPECT_THAT(ErrorOf(data), HasSubstr("type=-1"));
  data = TinyBpe("gpt-2");
  data.tokens[9] = std::string(kMaxTokenBytes + 1, 'a');
  EXPECT_THAT(ErrorOf(data), HasSubstr("token text too long: token=9"));
  data = TinyBpe("gpt-2");
  data.tokens.resize(size_t{kMaxVocab} + 1);
  EXPECT_THAT(ErrorOf(data), HasSubstr("too many tokens"));
}

TEST(MakeTokenizer, SpecialIdsLieInTheVocabulary) {
  const struct {
    const char* name;
    std::optional<int64_t> TokenizerData::*id;
  } kIds[] = {{"bos", &TokenizerData::bos},         {"eos", &TokenizerData::eos},
              {"eot", &TokenizerData::eot},         {"eom", &TokenizerData::eom},
              {"unknown", &TokenizerData::unknown}, {"padding", &TokenizerData::padding}};
  for (const auto& [name, id] : kIds) {
    for (const int64_t bad : {int64_t{-1}, int64_t{100'000}, int64_t{1} << 40}) {
      TokenizerData data = TinyBpe("gpt-2");
      data.*id = bad;
      EXPECT_THAT(ErrorOf(data), HasSubstr(std::string("tokenizer.ggml.") + name + "_token_id"));
    }
  }
}

TEST(MakeTokenizer, SentencePieceHasDefaultSpecialIds) {
  const auto tokenizer = MakeTokenizer(TinySpm());
  ASSERT_TRUE(tokenizer.ok());
  const SpecialTokens& special = (*tokenizer)->special();
  EXPECT_EQ(special.bos, 1);
  EXPECT_EQ(special.eos, 2);
  EXPECT_EQ(special.unknown, 0);
  EXPECT_TRUE(special.add_bos);
  EXPECT_FALSE(special.add_eos);
}

TEST(MakeTokenizer, AddBosWithoutABosIsSwitchedOff) {
  TokenizerData data = TinyBpe("gpt-2");
  data.add_bos = true;
  const auto tokenizer = MakeTokenizer(data);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_FALSE((*tokenizer)->special().add_bos);
}

TEST(MakeTokenizer, EndIdsAreTheMarkedOnesAndTheWellKnownOnes) {
  TokenizerData data = TinyBpe("qwen2");
  data.eom = 0;
  // As ordinary text "</s>" ends nothing.
  data.tokens.push_back("</s>");
  data.types.push_back(static_cast<int64_t>(TokenType::kNormal));
  const auto tokenizer = MakeTokenizer(data);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT((*tokenizer)->special().end_ids,
              ElementsAre(0, IdOf(data, "<|im_end|>"), IdOf(data, "<|endoftext|>")));
}

TEST(MakeTokenizer, DuplicateTokensAreToleratedAndTheFirstWins) {
  TokenizerData data = TinySpm();
  data.tokens.push_back("▁hello");
  data.types.push_back(static_cast<int64_t>(TokenType::kNormal));
  data.scores.push_back(100);
  const auto tokenizer = MakeTokenizer(data);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT((*tokenizer)->Encode("hello", {.add_special = false}),
              ElementsAre(IdOf(data, "▁hello")));
}

TEST(Tokenizer, IdsOutsideTheVocabularyAreNothing) {
  for (const TokenizerData& data : {TinySpm(), TinyBpe("default")}) {
    const auto tokenizer = MakeTokenizer(data);
    ASSERT_TRUE(tokenizer.ok());
    const int n_vocab = static_cast<int>(data.tokens.size());
    EXPECT_EQ((*tokenizer)->n_vocab(), n_vocab);
    for (const int32_t id : {-1, n_vocab, 1 << 30}) {
      EXPECT_EQ((*tokenizer)->TokenText(id), "");
      EXPECT_EQ((*tokenizer)->TokenBytes(id, true), "");
      EXPECT_EQ((*tokenizer)->Type(id), TokenType::kUnused);
    }
  }
}

TEST(Vocabulary, SearchesLongerTokensFirst) {
  TokenizerData data;
  data.tokens = {"<a>", "<a><b>", "<b>", "<c>"};
  data.types = {4, 4, 4, 3};
  const auto vocabulary = Vocabulary::Create(&data, {});
  ASSERT_TRUE(vocabulary.ok());
  const auto tokens = [&](std::string_view text, bool parse_special) {
    std::vector<int32_t> ids;
    for (const Fragment& f : vocabulary->Split(text, parse_special)) ids.push_back(f.token);
    return ids;
  };
  constexpr int32_t kText = Fragment::kText;
  EXPECT_THAT(tokens("<a><b><b>x<a>", false), ElementsAre(1, 2, kText, 0));
  EXPECT_THAT(tokens("<c>", false), ElementsAre(kText));
  EXPECT_THAT(tokens("y<c>", true), ElementsAre(kText, 3));
  EXPECT_THAT(tokens("", true), ElementsAre());
}

TEST(Vocabulary, ByteTokensAreSpeltInHex) {
  EXPECT_EQ(ParseByteToken("<0x0A>"), 10);
  EXPECT_EQ(ParseByteToken("<0xff>"), 255);
  for (const char* bad : {"<0x0>", "<0xGG>", "0x0A", "<0x0A", "<0x0A>>", ""}) {
    EXPECT_EQ(ParseByteToken(bad), -1) << bad;
  }
}

}  // namespace
}  // namespace thermocline::model
