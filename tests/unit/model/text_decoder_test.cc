#include "model/text_decoder.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "model/unicode.h"

namespace thermocline::model {
namespace {

using Texts = std::vector<std::string>;

TEST(TextDecoder, HoldsACutCharacterUntilItIsWhole) {
  TextDecoder decoder;
  EXPECT_EQ(decoder.Push("a\xF0"), "a");
  EXPECT_EQ(decoder.Push("\x9F"), "");
  EXPECT_EQ(decoder.Push("\x90"), "");
  EXPECT_EQ(decoder.Push("\x9F!"), "🐟!");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(TextDecoder, ReplacesWhatCannotBecomeValid) {
  TextDecoder decoder;
  EXPECT_EQ(decoder.Push("x\xFFy"), "x\uFFFDy");
  EXPECT_EQ(decoder.Push("\xE6\xB0"), "");
  EXPECT_EQ(decoder.Push("z"), "\uFFFDz");
  EXPECT_EQ(decoder.Push("\xC3"), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
}

std::string RandomBytes(std::mt19937* rng) {
  static constexpr std::string_view kPieces[] = {
      "a", "é", "水", "🐟", "\xFF", "\xC3", "\xF0\x9F", "\x80", "\xED\xA0\x80", "\xE6"};
  std::string bytes;
  for (int n = static_cast<int>((*rng)() % 12); n > 0; --n) bytes += kPieces[(*rng)() % 10];
  return bytes;
}

TEST(TextDecoder, OutputIsValidAndIndependentOfTheCuts) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 rng(seed);
    const std::string bytes = RandomBytes(&rng);
    TextDecoder whole;
    std::string expected = whole.Push(bytes);
    expected += whole.Flush();
    TextDecoder cut;
    std::string got;
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = 1 + rng() % 3;
      got += cut.Push(std::string_view(bytes).substr(at, n));
      ASSERT_TRUE(IsValidUtf8(got)) << "seed " << seed;
      at += n;
    }
    got += cut.Flush();
    ASSERT_EQ(got, expected) << "seed " << seed;
    if (IsValidUtf8(bytes)) {
      ASSERT_EQ(got, bytes) << "seed " << seed;
    }
  }
}

StopMatcher Matcher(const Texts& stops) {
  auto matcher = StopMatcher::Create(stops);
  EXPECT_TRUE(matcher.ok()) << matcher.status();
  return std::move(matcher).value();
}

TEST(StopMatcher, WithoutStopsNothingIsHeldBack) {
  StopMatcher matcher = Matcher({});
  EXPECT_EQ(matcher.Push("hello"), "hello");
  EXPECT_EQ(matcher.Flush(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, HoldsAPossiblePrefixUntilItIsDisproved) {
  StopMatcher matcher = Matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Push("hi\n"), "hi");
  EXPECT_EQ(matcher.Push("\nUs"), "");
  EXPECT_EQ(matcher.Push("ual\n"), "\n\nUsual");
  EXPECT_EQ(matcher.Push("\nUser: more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched_stop(), 0);
  EXPECT_EQ(matcher.Push("ignored"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcher, GivesHeldTextBackAtTheEnd) {
  StopMatcher matcher = Matcher({"stop"});
  EXPECT_EQ(matcher.Push("a st"), "a ");
  EXPECT_EQ(matcher.Flush(), "st");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, SeesAStopThatOverlapsItsOwnBeginning) {
  StopMatcher matcher = Matcher({"aab"});
  EXPECT_EQ(matcher.Push("aaab"), "a");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, TheStopThatEndsFirstWinsThenTheLonger) {
  StopMatcher early = Matcher({"abcde", "cd"});
  EXPECT_EQ(early.Push("xabcde"), "xab");
  EXPECT_EQ(early.matched_stop(), 1);
  StopMatcher longer = Matcher({"c", "abc"});
  EXPECT_EQ(longer.Push("xabc"), "x");
  EXPECT_EQ(longer.matched_stop(), 1);
}

// The definition, by brute force: the match with the smallest end, then the smallest begin.
std::string CutAtStop(const std::string& text, const Texts& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t best = std::string::npos;
    for (const std::string& stop : stops) {
      const bool ends =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends) best = std::min(best, end - stop.size());
    }
    if (best != std::string::npos) return text.substr(0, best);
  }
  return text;
}

TEST(StopMatcher, AgreesWithTheDefinitionHoweverTheTextIsCut) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 rng(seed);
    const auto word = [&](int max) {
      std::string text;
      for (int n = 1 + static_cast<int>(rng() % max); n > 0; --n) text += "ab"[rng() % 2];
      return text;
    };
    const Texts stops = {word(6), word(8), word(5) + "b"};
    const std::string text = word(40);
    StopMatcher matcher = Matcher(stops);
    std::string got;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng() % 4;
      got += matcher.Push(text.substr(at, n));
      at += n;
    }
    got += matcher.Flush();
    ASSERT_EQ(got, CutAtStop(text, stops)) << "seed " << seed << " text " << text;
    ASSERT_EQ(matcher.stopped(), got.size() < text.size());
  }
}

TEST(StopMatcher, RefusesWhatItCannotMatch) {
  EXPECT_EQ(StopMatcher::Create({""}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(StopMatcher::Create({"\xFF"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(StopMatcher::Create(Texts(StopMatcher::kMaxStops + 1, "a")).ok());
  EXPECT_TRUE(StopMatcher::Create(Texts(StopMatcher::kMaxStops, "a")).ok());
  EXPECT_FALSE(StopMatcher::Create({std::string(StopMatcher::kMaxStopBytes + 1, 'a')}).ok());
}

}  // namespace
}  // namespace thermocline::model
