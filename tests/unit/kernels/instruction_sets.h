// Runs a test body once on each instruction set that this machine has, not only on the best one.
#pragma once

#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

namespace thermocline::kernels {

template <typename Body>
void OnEachInstructionSet(Body body) {
  for (const int64_t target :
       {HWY_AVX3_DL | HWY_AVX3, HWY_AVX3, HWY_AVX2, HWY_SSE4, HWY_NEON, HWY_EMU128}) {
    hwy::SetSupportedTargetsForTest(0);
    if (target != HWY_EMU128 && (hwy::SupportedTargets() & target) != target) continue;
    SCOPED_TRACE(hwy::TargetName(target & -target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace thermocline::kernels
