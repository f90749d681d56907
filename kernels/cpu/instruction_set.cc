#include <hwy/highway.h>
#include <hwy/targets.h>

#include "kernels/cpu/ops.h"

namespace thermocline::kernels::cpu {

// Highway's list of what this machine runs, best first, by the names people know.
std::string InstructionSetName() {
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  switch (usable & -usable) {
    case HWY_AVX3_DL:
      return "avx512-vnni";
    case HWY_AVX3:
      return "avx512";
    case HWY_AVX2:
      return "avx2";
    case HWY_SSE4:
      return "sse4";
    case HWY_NEON:
      return "neon";
    default:
      return "scalar";
  }
}

}  // namespace thermocline::kernels::cpu
