// A worker's device and ways to others, all of this process: memory that the host cannot touch, and
// what stands for GPUs and NCCL.
#pragma once

#include <utility>

#include "tests/support/apart_device.h"
#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/group_cluster.h"

namespace thermocline::testing {

inline void SetFaults(const FakeGpuFaults& faults) { tc_fake_gpu_set_faults(&faults); }

inline void TellFake(const std::byte* seen, std::byte* memory, uint64_t n_bytes) {
  if (memory == nullptr) return tc_fake_gpu_forget_memory(seen);
  tc_fake_gpu_know_memory(seen, memory, n_bytes);
}

// Lost after so many ops and copies; negative: never.
inline MemberDevice MemberLostAfter(int64_t lost_after, int gpu) {
  MemberDevice member;
  member.ways =
      worker::OpenGpuWays(gpu, comm::NcclLibrary::Load({.library = TC_FAKE_GPU}), TC_FAKE_GPU);
  member.stream = std::move(member.ways.gpu->MakeStream()).value();
  member.device = MakeApartDevice({.memory_bytes = uint64_t{64} << 20,
                                   .lost_after = lost_after,
                                   .stream = member.stream.get(),
                                   .on_memory = TellFake});
  return member;
}
inline MemberDevice FakeMember(int gpu) { return MemberLostAfter(-1, gpu); }

}  // namespace thermocline::testing
