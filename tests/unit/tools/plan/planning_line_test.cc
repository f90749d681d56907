#include "tools/plan/planning_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace thermocline::tools {
namespace {

using ::testing::HasSubstr;
using ::testing::Optional;

TEST(PlanningLine, TellsSecondsAndTheBestPlan) {
  EXPECT_EQ(PlanningText(0.4, std::nullopt), "planning: 0 s, no plan yet");
  const placement::PlanSpeed one{.n_streams = 1, .all_tokens_per_s = 34.06};
  EXPECT_EQ(PlanningText(12.3, one), "planning: 12 s, best so far 34.1 tokens/s");
  const placement::PlanSpeed four{.n_streams = 4, .all_tokens_per_s = 100};
  EXPECT_EQ(PlanningText(73, four), "planning: 73 s, best so far 100.0 tokens/s of 4 streams");
}

TEST(PlanningLine, KeepsThePlanOfTheLeastValue) {
  PlanningLine line;
  constexpr std::chrono::steady_clock::time_point kPast;  // nothing to wait for
  EXPECT_THAT(line.TextAt(kPast), Optional(HasSubstr("no plan yet")));
  for (const double value_s : {2, 1, 3}) {
    line.Found({.all_tokens_per_s = 10 / value_s, .value_s = value_s});
  }
  EXPECT_THAT(line.TextAt(kPast), Optional(HasSubstr("best so far 10.0 tokens/s")));
}

}  // namespace
}  // namespace thermocline::tools
