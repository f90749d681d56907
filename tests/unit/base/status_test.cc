#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <sstream>

namespace thermocline {
namespace {

TEST(Status, OkByDefault) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.ToString(), "ok");
  EXPECT_TRUE(OkStatus().ok());
}

TEST(Status, EachFactoryHasItsCode) {
  const std::pair<Status, StatusCode> cases[] = {
      {InvalidArgument("m"), StatusCode::kInvalidArgument},
      {NotFound("m"), StatusCode::kNotFound},
      {DataLoss("m"), StatusCode::kDataLoss},
      {ResourceExhausted("m"), StatusCode::kResourceExhausted},
      {Unavailable("m"), StatusCode::kUnavailable},
      {DeadlineExceeded("m"), StatusCode::kDeadlineExceeded},
      {Aborted("m"), StatusCode::kAborted},
      {Internal("m"), StatusCode::kInternal},
  };
  for (const auto& [status, code] : cases) {
    EXPECT_EQ(status.code(), code);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.message(), "m");
    EXPECT_EQ(status.ToString(), std::string(StatusCodeName(code)) + ": m");
  }
}

TEST(Status, ContextComesFirstAndKeepsTheCode) {
  const Status status = DataLoss("short").WithContext("blk.0");
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "blk.0: short");
  EXPECT_TRUE(OkStatus().WithContext("ignored").ok());
}

TEST(Status, Prints) {
  std::ostringstream out;
  out << NotFound("no such file");
  EXPECT_EQ(out.str(), "not found: no such file");
}

TEST(Result, HoldsAValueOrAStatus) {
  Result<int> value = 7;
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value, 7);
  EXPECT_TRUE(value.status().ok());
  const Result<int> error = NotFound("gone");
  EXPECT_FALSE(error.ok());
  EXPECT_EQ(error.status().code(), StatusCode::kNotFound);
}

TEST(Result, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
  const std::unique_ptr<int> owned = std::move(result).value();
  EXPECT_EQ(*owned, 3);
}

TEST(ResultDeathTest, TheValueOfAnErrorIsABug) {
  const Result<int> error = NotFound("gone");
  EXPECT_DEATH((void)error.value(), "gone");
}

Status FailIf(bool fail) { return fail ? Aborted("told to") : OkStatus(); }
Result<int> Half(int n) {
  if (n % 2 != 0) return InvalidArgument("odd");
  return n / 2;
}
Result<int> QuarterUnless(int n, bool fail) {
  TC_RETURN_IF_ERROR(FailIf(fail));
  TC_ASSIGN_OR_RETURN(const int half, Half(n));
  TC_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(Macros, ReturnTheFirstError) {
  EXPECT_EQ(*QuarterUnless(8, false), 2);
  EXPECT_EQ(QuarterUnless(8, true).status().code(), StatusCode::kAborted);
  EXPECT_EQ(QuarterUnless(6, false).status().message(), "odd");
}

}  // namespace
}  // namespace thermocline
