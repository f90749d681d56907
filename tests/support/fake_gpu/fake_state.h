// What both halves of the fake share.
#pragma once

#include "tests/support/fake_gpu/fake_gpu.h"

namespace thermocline::testing {

FakeGpuFaults CurrentFaults();

// Where the memory of an address really is.
void* MemoryAt(const void* seen);

}  // namespace thermocline::testing
