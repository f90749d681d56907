#include <gtest/gtest.h>

#include "coordinator/http/choice.h"
#include "tests/support/byte_tokenizer.h"

namespace thermocline::coordinator::http {
namespace {

using testing::ByteTokenizer;

class ChoiceTest : public ::testing::Test {
 protected:
  Choice Make(const std::vector<std::string>& stops, Choice::Options options = {}) {
    return Choice(tokenizer_, *model::StopMatcher::Create(stops), options);
  }
  static void AddText(Choice& choice, std::string_view text) {
    for (const char c : text) choice.Add({.token = static_cast<unsigned char>(c)});
  }
  static std::string Offsets(const ChoicePiece& piece) {
    std::string text;
    for (const TokenEntry& token : piece.tokens) text += std::to_string(token.text_offset) + " ";
    return text;
  }

  ByteTokenizer tokenizer_;
};

TEST_F(ChoiceTest, HoldsBackHalfACharacter) {
  Choice choice = Make({});
  AddText(choice, "\xc3");
  EXPECT_EQ(choice.Take().text, "");
  AddText(choice, "\xa9");
  EXPECT_EQ(choice.Take().text, "\xc3\xa9");
  AddText(choice, "\xe2\x82");
  choice.Finish("length");
  EXPECT_EQ(choice.Take().text, "\xef\xbf\xbd");
}

TEST_F(ChoiceTest, HoldsBackAStopStringUntilItIsDisproved) {
  Choice choice = Make({"END"});
  AddText(choice, "aEN");
  EXPECT_EQ(choice.Take().text, "a");
  AddText(choice, "x");
  EXPECT_EQ(choice.Take().text, "ENx");
  AddText(choice, "bEND");
  EXPECT_EQ(choice.Take().text, "b");
  EXPECT_EQ(choice.finish_reason(), "stop");
  AddText(choice, "ignored");
  EXPECT_EQ(choice.Take().text, "");
  EXPECT_EQ(choice.n_tokens(), 8);
}

TEST_F(ChoiceTest, AHeldStopPrefixIsTextAtTheEnd) {
  Choice choice = Make({"END"});
  AddText(choice, "EN");
  choice.Finish("length");
  EXPECT_EQ(choice.Take().text, "EN");
  EXPECT_EQ(choice.finish_reason(), "length");
}

TEST_F(ChoiceTest, StopStringsAreNotLookedForBeforeMinTokens) {
  Choice choice = Make({"a"}, {.min_tokens = 2});
  AddText(choice, "aa");
  EXPECT_FALSE(choice.finished());
  AddText(choice, "a");
  EXPECT_TRUE(choice.finished());
  EXPECT_EQ(choice.Take().text, "aa");
}

TEST_F(ChoiceTest, TokensComeWithTheirTextAndTheStopsTokensNever) {
  Choice choice = Make({"END"}, {.keep_tokens = true});
  AddText(choice, "abE");
  ChoicePiece piece = choice.Take();
  EXPECT_EQ(piece.text, "ab");
  EXPECT_EQ(Offsets(piece), "0 1 ");
  AddText(choice, "ND");
  piece = choice.Take();
  EXPECT_TRUE(choice.finished());
  EXPECT_EQ(piece.tokens.size(), 0u);
}

TEST_F(ChoiceTest, OffsetsCountCharacters) {
  Choice choice = Make({}, {.keep_tokens = true});
  AddText(choice, "\xc3\xa9x");
  choice.Finish("stop");
  EXPECT_EQ(Offsets(choice.Take()), "0 0 1 ");
}

TEST_F(ChoiceTest, EchoPutsThePromptAndItsScoresFirst) {
  Choice choice = Make({}, {.keep_tokens = true});
  const model::SampledToken score{.token = 'i', .logprob = -2, .top = {{'j', -1}}};
  choice.Echo({{'h', 'i'}, "hi"}, {score});
  AddText(choice, "!");
  const ChoicePiece piece = choice.Take();
  EXPECT_EQ(piece.text, "hi!");
  EXPECT_EQ(Offsets(piece), "0 1 2 ");
  EXPECT_FALSE(piece.tokens[0].logprob);
  EXPECT_EQ(piece.tokens[1].logprob, -2);
  EXPECT_EQ(piece.tokens[1].top[0].bytes, "j");
}

TEST_F(ChoiceTest, EchoOffsetsIgnoreWhatTheTokenizerAdded) {
  Choice choice = Make({}, {.keep_tokens = true});
  choice.Echo({{ByteTokenizer::kBos, 'h', 'i'}, "hi"}, {});
  choice.Finish("length");
  EXPECT_EQ(Offsets(choice.Take()), "0 0 1 ");
}

}  // namespace
}  // namespace thermocline::coordinator::http
