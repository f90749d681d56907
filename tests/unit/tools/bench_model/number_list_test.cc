#include "tools/bench_model/number_list.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

TEST(SplitList, KeepsOrderAndRefusesEmptyParts) {
  EXPECT_EQ(*SplitList("-x", "a,b,a"), (std::vector<std::string>{"a", "b", "a"}));
  for (const char* bad : {"", ",", "a,", ",a", "a,,b"}) {
    EXPECT_EQ(SplitList("-x", bad).status().code(), StatusCode::kInvalidArgument) << bad;
  }
}

TEST(SplitList, HasALimit) {
  std::string text = "1";
  for (size_t i = 1; i < kMaxListItems; ++i) text += ",1";
  EXPECT_THAT(SplitList("-x", text).status(), testing::IsOk());
  EXPECT_EQ(SplitList("-x", text + ",1").status().message(), "-x has too many values: max=64");
}

TEST(NumberList, ReadsSuffixesAndDropsDoubles) {
  EXPECT_EQ(*ParseNumberList("-n", "64,1K,64,2k", {1, 4096}),
            (std::vector<int64_t>{64, 1024, 2000}));
}

TEST(NumberList, NamesWhatIsWrong) {
  EXPECT_EQ(ParseNumberList("-b", "1,0", {1, 16}).status().message(),
            "-b out of range: value=0 min=1 max=16");
  EXPECT_EQ(ParseNumberList("-b", "17", {1, 16}).status().message(),
            "-b out of range: value=17 min=1 max=16");
  const Status status = ParseNumberList("-b", "1,two", {1, 16}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("\"two\""), std::string::npos) << status.message();
  EXPECT_FALSE(ParseNumberList("-b", "-1", {1, 16}).ok());
}

}  // namespace
}  // namespace thermocline::tools
