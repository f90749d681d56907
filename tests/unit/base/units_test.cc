#include "base/units.h"

#include <gtest/gtest.h>

#include <limits>

namespace thermocline {
namespace {

TEST(ParseBytes, PowersOf1024) {
  const std::pair<const char*, uint64_t> cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"64K", 64 * kKiB},
      {"64k", 64 * kKiB},
      {"1.5M", 3 * kMiB / 2},
      {"2G", 2 * kGiB},
      {"1T", 1024 * kGiB},
      {"512MiB", 512 * kMiB},
      {"12 MB", 12 * kMiB},
      {"7B", 7},
      {".5K", 512},
  };
  for (const auto& [text, bytes] : cases) {
    const auto parsed = ParseBytes(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    EXPECT_EQ(*parsed, bytes) << text;
  }
}

TEST(ParseBytes, RefusesOtherTextAndNamesIt) {
  for (const char* text :
       {"", "x", "-1", "1X", "1MBs", "1KK", "1e400", "nan", "inf", "99999999T"}) {
    const auto parsed = ParseBytes(text);
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(parsed.status().message().find(std::string("\"") + text + "\""), std::string::npos);
  }
}

TEST(ParseCount, UpperCaseIsBinaryAndLowerCaseDecimal) {
  EXPECT_EQ(*ParseCount("4096"), 4096);
  EXPECT_EQ(*ParseCount("32K"), 32768);
  EXPECT_EQ(*ParseCount("32k"), 32000);
  EXPECT_EQ(*ParseCount("1.5m"), 1500000);
  for (const char* text : {"", "1B", "1KB", "-3", "many"}) {
    EXPECT_EQ(ParseCount(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(FormatBytes, ChoosesTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(9 * kMiB + kMiB / 10), "9.1 MiB");
  EXPECT_EQ(FormatBytes(5000 * 1024 * kGiB), "5000.0 TiB");
}

TEST(Checked, SaysWhenItWraps) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  uint64_t out = 0;
  EXPECT_TRUE(AddChecked(kMax - 1, 1, &out));
  EXPECT_EQ(out, kMax);
  EXPECT_FALSE(AddChecked(kMax, 1, &out));
  EXPECT_TRUE(MulChecked(kMax / 2, 2, &out));
  EXPECT_EQ(out, kMax - 1);
  EXPECT_FALSE(MulChecked(kMax / 2 + 1, 2, &out));
}

TEST(Rounding, UpToAMultiple) {
  EXPECT_EQ(DivCeil(0, 4), 0u);
  EXPECT_EQ(DivCeil(9, 4), 3u);
  EXPECT_EQ(RoundUp(9, 4), 12u);
  EXPECT_EQ(RoundUp(12, 4), 12u);
}

}  // namespace
}  // namespace thermocline
