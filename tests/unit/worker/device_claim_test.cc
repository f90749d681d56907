// GPUs among the workers of a host.
#include "worker/device_claim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"

namespace thermocline::worker {
namespace {

using ::testing::ElementsAre;

// Of this run of the test only.
std::string NameOf(const char* what) { return Str("test-", getpid(), "-", what); }

TEST(DeviceClaim, IsOnePersonsUntilItIsGone) {
  const std::string name = NameOf("one");
  {
    const auto claim = DeviceClaim::Take(name);
    EXPECT_TRUE(claim.ok());
    EXPECT_EQ(DeviceClaim::Take(name).status().message(), "another worker has it");
    EXPECT_TRUE(DeviceClaim::Take(NameOf("other")).ok());
  }
  EXPECT_TRUE(DeviceClaim::Take(name).ok());
}

TEST(DeviceClaim, EndsWithItsProcess) {
  const std::string name = NameOf("child");
  const pid_t child = fork();
  if (child == 0) _exit(DeviceClaim::Take(name).ok() ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(DeviceClaim::Take(name).ok());
}

TEST(OrdinalsToTry, OwnWhereAllAreSeenElseAnyThatIs) {
  EXPECT_THAT(OrdinalsToTry(2, 4), ElementsAre(2));
  EXPECT_THAT(OrdinalsToTry(0, 1), ElementsAre(0));
  EXPECT_THAT(OrdinalsToTry(3, 1), ElementsAre(0)) << "the launcher shows each its own";
  EXPECT_THAT(OrdinalsToTry(3, 2), ElementsAre(0, 1));
  EXPECT_THAT(OrdinalsToTry(1, 0), ElementsAre());
}

TEST(ClaimDevice, ForTheCpuNeedsNoGpu) {
  const auto claimed = ClaimDevice({.kind = kernels::DeviceChoice::Kind::kCpu, .ordinal = 1}, {});
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  EXPECT_TRUE(claimed->chosen.device->reads_host_memory());
  EXPECT_EQ(claimed->chosen.note, "");
  EXPECT_FALSE(claimed->claim);
}

}  // namespace
}  // namespace thermocline::worker
