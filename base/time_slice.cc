#include "base/time_slice.h"

#include <linux/sched.h>
// After linux/sched.h. Its sched_param is that of <sched.h>, which must not be included here.
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace thermocline {
namespace {

// The shortest that Linux grants. Measured on 2 cores beside 2 busy processes: 39 to 50 % of the
// quiet speed, where the usual slices (2.8 ms) left 26 % (docs/benchmarks.md, "Busy neighbours").
constexpr unsigned long long kShortSliceNs = 100'000;

// 0: the usual. All else stays as it is.
void RequestSlices(unsigned long long runtime_ns) {
  sched_attr attr{};
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0) return;
  if (attr.sched_policy != SCHED_NORMAL && attr.sched_policy != SCHED_BATCH) return;
  attr.sched_runtime = runtime_ns;
  (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

}  // namespace

void RequestShortSlices() { RequestSlices(kShortSliceNs); }

void RequestUsualSlices() { RequestSlices(0); }

}  // namespace thermocline
