#include "model/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string_view> Split(std::string_view name, std::string_view text) {
  const auto pre_tokenizer = PreTokenizer::Create(name);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  return pre_tokenizer->Split(text);
}

TEST(PreTokenizer, Gpt2KeepsOneSpaceWithTheWord) {
  EXPECT_THAT(Split("gpt-2", "Hello,  world's 123 days!\n"),
              ElementsAre("Hello", ",", " ", " world", "'s", " 123", " days", "!", "\n"));
  EXPECT_THAT(Split("gpt-2", "a \n\tb"), ElementsAre("a", " \n", "\t", "b"));
  EXPECT_THAT(Split("gpt-2", "IT'S"), ElementsAre("IT", "'", "S"));
}

TEST(PreTokenizer, Llama3GroupsDigitsByThreeAndNewlinesWithPunctuation) {
  EXPECT_THAT(Split("llama-bpe", "It'S 12345.\n\nx"),
              ElementsAre("It", "'S", " ", "123", "45", ".\n\n", "x"));
  EXPECT_THAT(Split("llama-bpe", "(abc) \n  d"), ElementsAre("(abc", ")", " \n", " ", " d"));
}

TEST(PreTokenizer, Qwen2CutsEveryDigit) {
  EXPECT_THAT(Split("qwen2", "in 2026"), ElementsAre("in", " ", "2", "0", "2", "6"));
  EXPECT_THAT(Split("qwen2", "水²½"), ElementsAre("水", "²", "½"));
}

TEST(PreTokenizer, DefaultCutsPunctuationAndDigitsApart) {
  EXPECT_THAT(Split("default", "a (b+c)=1234"),
              ElementsAre("a", " ", "(", "b", "+", "c", ")=", "123", "4"));
  EXPECT_THAT(Split("default", "it's"), ElementsAre("it", "'", "s"));
}

TEST(PreTokenizer, SpacesAreThoseOfUnicode) {
  // U+3000 and U+0085 are white space, U+180E and U+200B are not.
  EXPECT_THAT(Split("gpt-2", "a\u3000\u0085b"), ElementsAre("a", "\u3000", "\u0085", "b"));
  EXPECT_THAT(Split("gpt-2", "a\u180E\u200Bb"), ElementsAre("a", "\u180E\u200B", "b"));
}

TEST(PreTokenizer, NothingGivesNoWords) { EXPECT_TRUE(Split("llama-bpe", "").empty()); }

TEST(PreTokenizer, KnowsWhichModelsTakeWholeWordsAndStartWithBos) {
  EXPECT_TRUE(PreTokenizer::Create("llama-bpe")->ignore_merges());
  EXPECT_TRUE(PreTokenizer::Create("llama-bpe")->add_bos());
  EXPECT_FALSE(PreTokenizer::Create("qwen2")->ignore_merges());
  EXPECT_FALSE(PreTokenizer::Create("gpt-2")->add_bos());
}

TEST(PreTokenizer, AnUnknownNameIsAnErrorThatListsTheKnownOnes) {
  const Status status = PreTokenizer::Create("tekken\n").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("tokenizer.ggml.pre=\"tekken\\x0a\""));
  EXPECT_THAT(status.message(), HasSubstr("default, gpt-2"));
  EXPECT_THAT(status.message(), HasSubstr("llama-bpe"));
  EXPECT_THAT(status.message(), HasSubstr("qwen2"));
}

// A backtracking engine must neither give up on nor crawl through long runs.
TEST(PreTokenizer, LongRunsStayWhole) {
  constexpr size_t kLength = size_t{1} << 20;
  for (const char* name : {"default", "gpt-2", "llama-bpe", "qwen2"}) {
    EXPECT_EQ(Split(name, std::string(kLength, 'a')).size(), 1u) << name;
    EXPECT_EQ(Split(name, std::string(kLength, ' ')).size(), 1u) << name;
    EXPECT_EQ(Split(name, std::string(kLength, ' ') + "x").size(), 2u) << name;
    EXPECT_EQ(Split(name, std::string(kLength, '\n')).size(), 1u) << name;
    EXPECT_EQ(Split(name, std::string(kLength, '!')).size(), 1u) << name;
  }
  EXPECT_EQ(Split("llama-bpe", std::string(kLength, '7')).size(), (kLength + 2) / 3);
  EXPECT_EQ(Split("qwen2", std::string(kLength, '7')).size(), kLength);
}

}  // namespace
}  // namespace thermocline::model
