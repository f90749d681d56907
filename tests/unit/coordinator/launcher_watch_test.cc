#include "coordinator/launcher_watch.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace thermocline::coordinator {
namespace {

constexpr Duration kPatience = std::chrono::milliseconds(20);
// How long the parent lives when nobody kills it: enough for a kill that must not come, or that
// must.
constexpr useconds_t kShortLifeUs = 200'000;
constexpr useconds_t kLongLifeUs = 600'000'000;

// Starts a process of that name whose child calls the watch, and tells how the process ended.
int EndOfParent(const char* name, useconds_t life_us) {
  const pid_t parent = fork();
  if (parent == 0) {
    prctl(PR_SET_NAME, name);
    if (fork() == 0) {
      KillStuckLauncherAfter(kPatience);
      _exit(0);
    }
    usleep(life_us);
    _exit(7);
  }
  int status = 0;
  waitpid(parent, &status, 0);
  return status;
}

TEST(LauncherWatch, KillsAnMpirunThatStays) {
  const int status = EndOfParent("mpirun", kLongLifeUs);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST(LauncherWatch, LeavesOtherParentsAlone) {
  const int status = EndOfParent("orted", kShortLifeUs);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace
}  // namespace thermocline::coordinator
