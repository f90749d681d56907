#include "model/unicode.h"

#include <gtest/gtest.h>

namespace thermocline::model {
namespace {

TEST(Unicode, EveryScalarValueSurvivesARoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Unit unit = ScanUtf8(text);
    ASSERT_EQ(unit.kind, Utf8Kind::kValid) << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(unit.codepoint, c);
    ASSERT_EQ(unit.n_bytes, text.size());
  }
}

struct BadCase {
  std::string_view text;
  Utf8Kind kind;
  size_t n_bytes;
};

// The Unicode Standard, section 3.9, tables 3-8 to 3-11: maximal subparts.
TEST(Unicode, NamesWhatIsInvalidAndWhatIsOnlyCut) {
  const BadCase cases[] = {
      {"\x80", Utf8Kind::kInvalid, 1},
      {"\xC0\xAF", Utf8Kind::kInvalid, 1},          // overlong
      {"\xE0\x80\xAF", Utf8Kind::kInvalid, 1},      // overlong
      {"\xED\xA0\x80", Utf8Kind::kInvalid, 1},      // surrogate
      {"\xF4\x91\x92\x93", Utf8Kind::kInvalid, 1},  // above U+10FFFF
      {"\xFF", Utf8Kind::kInvalid, 1},
      {"\xE1\x80\xE2", Utf8Kind::kInvalid, 2},
      {"\xF1\x80\x80\x41", Utf8Kind::kInvalid, 3},
      {"\xE1\x80", Utf8Kind::kIncomplete, 2},
      {"\xF0\x9F\x90", Utf8Kind::kIncomplete, 3},
      {"\xC3", Utf8Kind::kIncomplete, 1},
  };
  for (const BadCase& c : cases) {
    const Utf8Unit unit = ScanUtf8(c.text);
    EXPECT_EQ(unit.kind, c.kind) << testing::PrintToString(c.text);
    EXPECT_EQ(unit.n_bytes, c.n_bytes) << testing::PrintToString(c.text);
  }
}

TEST(Unicode, ValidPrefixStopsBeforeTheFirstBadByte) {
  EXPECT_EQ(ValidUtf8Prefix("abc"), 3u);
  EXPECT_EQ(ValidUtf8Prefix("é\xFFx"), 2u);
  EXPECT_EQ(ValidUtf8Prefix("a\xE6\xB0"), 1u);
  EXPECT_TRUE(IsValidUtf8(""));
}

}  // namespace
}  // namespace thermocline::model
