#include "tools/bench_model/op_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::tools {
namespace {

using ::testing::HasSubstr;

// 4 steps of 1 s, of which 3.6 s are the operators'.
CaseResult Watched() {
  CaseResult result;
  result.n_steps = 4;
  result.seconds = 4;
  AddOpTimes({{"matmul fc1", 4, 0.2, 100, true}, {"neurons ffn_gate", 4, 1, 4000, false}},
             &result.ops);
  AddOpTimes({{"neurons ffn_gate", 4, 2.2, 4000, false}, {"matmul fc1", 4, 0.2, 100, true}},
             &result.ops);
  return result;
}

TEST(OpReport, LinesArePerStepLongestFirstAndEndWithTheRest) {
  const std::vector<OpLine> lines = OpLinesOf(Watched());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].name, "neurons ffn_gate");
  EXPECT_DOUBLE_EQ(lines[0].calls, 2);
  EXPECT_DOUBLE_EQ(lines[0].seconds, 0.8);
  EXPECT_DOUBLE_EQ(lines[0].share, 0.8);
  EXPECT_DOUBLE_EQ(lines[0].bytes, 2000);
  EXPECT_DOUBLE_EQ(lines[0].bytes_per_s(), 2500);
  EXPECT_EQ(lines[1].name, "matmul fc1");
  EXPECT_EQ(lines[2].name, "sampling and the rest");
  EXPECT_NEAR(lines[2].share, 0.1, 1e-12);
  double share = 0;
  for (const OpLine& line : lines) share += line.share;
  EXPECT_NEAR(share, 1, 1e-12);
}

TEST(OpReport, PredictorsAreAddedUp) {
  EXPECT_NEAR(PredictorShare(Watched()), 0.1, 1e-12);
  EXPECT_THAT(MarkdownOps("title", Watched()), HasSubstr("predictors: 10.0 % of the time"));
  EXPECT_EQ(PredictorShare(CaseResult{}), 0);
  EXPECT_TRUE(OpLinesOf(CaseResult{}).empty());
}

}  // namespace
}  // namespace thermocline::tools
