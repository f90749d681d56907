#include "tools/inspect/flags.h"

#include "base/str.h"
#include "base/thread_pool.h"
#include "model/config.h"

namespace thermocline::tools {

Status CheckInspectFlags(const InspectFlags& flags) {
  if (flags.n_threads < 0 || flags.n_threads > ThreadPool::kMaxThreads) {
    return InvalidArgument(Str("--threads out of range:", Kv("threads", flags.n_threads),
                               Kv("max", ThreadPool::kMaxThreads)));
  }
  if (flags.n_context < 0 || flags.n_context > model::kMaxContext) {
    return InvalidArgument(
        Str("--ctx out of range:", Kv("tokens", flags.n_context), Kv("max", model::kMaxContext)));
  }
  // -1 is "not given"; a NaN fails both comparisons.
  if (flags.active != -1 && !(flags.active >= 0 && flags.active <= 1)) {
    return InvalidArgument(Str("--active must be within 0 and 1:", Kv("active", flags.active)));
  }
  return OkStatus();
}

}  // namespace thermocline::tools
