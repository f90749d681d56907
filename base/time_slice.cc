#include "base/time_slice.h"

#include <linux/sched.h>
// After linux/sched.h. Its sched_param is that of <sched.h>, which must not be included here.
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace thermocline {
namespace {

// The shortest that Linux grants. Measured on 2 cores beside 2 busy processes: half of the quiet
// speed, our share, where slices of 0.5 ms left 37 % and the usual ones (2.8 ms) 27 %.
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
