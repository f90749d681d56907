// What both halves of the fake share.
#pragma once

#include "tests/support/fake_gpu/fake_gpu.h"

namespace thermocline::testing {

FakeGpuFaults CurrentFaults();

}  // namespace thermocline::testing
