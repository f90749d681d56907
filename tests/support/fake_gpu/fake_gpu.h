// Four GPUs that are threads and memory of this process, behind the functions of NVIDIA's driver
// and of NCCL: a library that comm/ loads in their place. What follows is for the tests.
#pragma once

#include <cstdint>

namespace thermocline::testing {

// What is to go wrong. Set before the GPUs are used; thread-safe.
struct FakeGpuFaults {
  int nccl_version = 22809;
  bool nobody_comes = false;  // members never meet
  int init_error = 0;         // found while members meet, e.g. by the death of one
  int async_error = 0;        // of all communicators
  int async_rank = -1;        // at the member of that rank only; negative: at all
  bool work_hangs = false;    // collectives begin and never end, but for an abort
  int driver_error = 0;       // of every copy
};

extern "C" {
void tc_fake_gpu_set_faults(const FakeGpuFaults* faults);
// Communicators that were neither destroyed nor aborted; and those that were aborted so far.
int tc_fake_gpu_live_comms();
int tc_fake_gpu_aborted_comms();
// Values that one member has sent to another, so far.
int tc_fake_gpu_sends();
// Memory of the GPUs that everybody knows by the address `seen`, where nobody may touch it: copies
// and NCCL find it at `memory`. Until it is forgotten.
void tc_fake_gpu_know_memory(const void* seen, void* memory, uint64_t n_bytes);
void tc_fake_gpu_forget_memory(const void* seen);
// Memory, streams and events that were not given back.
int tc_fake_gpu_live_objects();
}

}  // namespace thermocline::testing
