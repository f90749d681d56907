#include "tools/bench_model/shell_command.h"

#include <gtest/gtest.h>

#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

using testing::kPatience;

TEST(ShellCommand, GivesOutputAndExitStatus) {
  const auto good = RunShellCommand("echo out; echo err >&2", kPatience);
  ASSERT_THAT(good.status(), testing::IsOk());
  EXPECT_EQ(good->text, "out\nerr\n");
  EXPECT_EQ(good->exit_status, 0);
  EXPECT_EQ(RunShellCommand("exit 3", kPatience)->exit_status, 3);
  EXPECT_EQ(RunShellCommand("kill -9 $$", kPatience)->exit_status, 128 + 9);
}

TEST(ShellCommand, ReadsNothingFromUs) {
  EXPECT_EQ(RunShellCommand("cat; echo done", kPatience)->text, "done\n");
}

TEST(ShellCommand, IsKilledWithItsChildrenPastItsTime) {
  // On a machine that stalls its time may be over before it has begun.
  EXPECT_TRUE(testing::InGrowingTime(std::chrono::milliseconds(300), [](Duration time) {
    const auto late = RunShellCommand("echo begun; sleep 600 & sleep 600", time);
    EXPECT_EQ(late.status().code(), StatusCode::kDeadlineExceeded);
    return late.status().message().find("begun") != std::string::npos;
  }));
}

TEST(ShellCommand, IsKilledWhenItOnlyClosesItsOutput) {
  const auto silent = RunShellCommand("exec >&- 2>&-; sleep 600", std::chrono::milliseconds(300));
  EXPECT_EQ(silent.status().code(), StatusCode::kDeadlineExceeded);
}

TEST(ShellCommand, KeepsTheEndOfALongOutput) {
  const auto output =
      RunShellCommand("head -c 10000000 /dev/zero | tr '\\0' x; echo last", kPatience);
  ASSERT_THAT(output.status(), testing::IsOk());
  EXPECT_EQ(output->text.size(), kMaxOutputBytes);
  EXPECT_TRUE(output->text.ends_with("xlast\n"));
}

TEST(TailOf, ShowsTheLastLines) {
  EXPECT_EQ(TailOf("a\n\nb\nc\n", 2), "  b\n  c");
  EXPECT_EQ(TailOf(""), "  (nothing)");
  EXPECT_EQ(TailOf("\x1b[31mred").find('\x1b'), std::string::npos);
}

TEST(ShellQuoted, IsOneWordOfAShell) {
  const std::string odd = "it's $HOME/a b*";
  EXPECT_EQ(RunShellCommand("printf %s " + ShellQuoted(odd), kPatience)->text, odd);
}

}  // namespace
}  // namespace thermocline::tools
