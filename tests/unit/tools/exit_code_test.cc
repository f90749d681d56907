#include "tools/exit_code.h"

#include <gtest/gtest.h>

#include <csignal>

#include "tools/interrupt.h"

namespace thermocline::tools {
namespace {

TEST(ExitCode, TellsBadInputFromFailures) {
  EXPECT_EQ(ExitCodeOf(OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(InvalidArgument("")), 2);
  EXPECT_EQ(ExitCodeOf(NotFound("")), 2);
  EXPECT_EQ(ExitCodeOf(DataLoss("")), 2);
  EXPECT_EQ(ExitCodeOf(ResourceExhausted("")), 1);
  EXPECT_EQ(ExitCodeOf(Internal("")), 1);
  EXPECT_EQ(ExitCodeOf(Aborted("")), 1);
}

// In a process of its own: a signal is never forgotten.
TEST(Interrupt, AFirstSignalIsNotedAndASecondOneEndsTheProcess) {
  const auto interrupted = [] {
    CatchInterrupts();
    if (!CheckInterrupted().ok()) std::exit(99);
    std::raise(SIGINT);
    std::exit(ExitCodeOf(CheckInterrupted()));
  };
  EXPECT_EXIT(interrupted(), ::testing::ExitedWithCode(130), "");
  const auto killed = [] {
    CatchInterrupts();
    std::raise(SIGTERM);
    std::raise(SIGTERM);
  };
  EXPECT_EXIT(killed(), ::testing::KilledBySignal(SIGTERM), "");
}

TEST(Interrupt, SignalsIgnoredFromTheStartStayIgnored) {
  const auto ignoring = [] {
    std::signal(SIGHUP, SIG_IGN);
    CatchInterrupts();
    std::raise(SIGHUP);
    std::exit(CheckInterrupted().ok() ? 0 : 1);
  };
  EXPECT_EXIT(ignoring(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace thermocline::tools
