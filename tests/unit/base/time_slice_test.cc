#include "base/time_slice.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <thread>

namespace thermocline {
namespace {

// Linux's sched_attr, whose header does not go with <sched.h>, which GoogleTest includes.
struct Attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

Attributes AttributesOfThisThread() {
  Attributes attr{};
  EXPECT_EQ(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0), 0);
  return attr;
}

bool SystemHasSlices() {
  utsname system{};
  int major = 0, minor = 0;
  uname(&system);
  std::sscanf(system.release, "%d.%d", &major, &minor);
  return major > 6 || (major == 6 && minor >= 12);
}

TEST(TimeSlice, RequestsChangeNothingElse) {
  std::thread thread([] {
    const int niceness = nice(3);  // a thread's own on Linux; the process may have some already
    const Attributes before = AttributesOfThisThread();
    RequestShortSlices();
    const Attributes after = AttributesOfThisThread();
    EXPECT_EQ(after.policy, before.policy);
    EXPECT_EQ(after.nice, niceness);
    EXPECT_EQ(after.flags, before.flags);
    if (SystemHasSlices()) {
      EXPECT_EQ(after.runtime, 100'000u);
    }
    RequestUsualSlices();
    EXPECT_EQ(AttributesOfThisThread().runtime, before.runtime);
    EXPECT_EQ(AttributesOfThisThread().nice, niceness);
  });
  thread.join();
}

}  // namespace
}  // namespace thermocline
