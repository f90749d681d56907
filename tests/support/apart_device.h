// A device with memory of its own, for tests where there is no GPU: the CPU's or the reference's
// ops behind memory that the host cannot touch, run late.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "kernels/device.h"

namespace thermocline::testing {

struct ApartOptions {
  uint64_t memory_bytes = uint64_t{1} << 30;  // address space; only touched pages are memory
  int n_threads = 1;
  bool is_reference = false;  // ops of the reference, not of the CPU
  // After so many ops and copies the device is lost; negative: never.
  int64_t lost_after = -1;
  // A FakeStream (tests/support/fake_gpu) on which ops and copies are done, by its thread, between
  // what others put there; outlives the device. Null: a queue that only waits run.
  void* stream = nullptr;
  // Told where the device's memory is, as the address that is seen and the one that may be touched,
  // and null when it goes. May be null.
  std::function<void(const std::byte* seen, std::byte* memory, uint64_t n_bytes)> on_memory;
};

// What it allocates are addresses that give a segmentation fault, filled with NaN behind them. Ops
// and copies wait in a queue: IsDone runs one of them, Wait those up to the mark. So host memory
// that is written before a copy from it is done, or read before one to it is, gives wrong results.
// A pointer to host memory in place of the device's, or the reverse, ends the program. With the
// same ops on the host the results are the same, bit for bit.
std::unique_ptr<kernels::Device> MakeApartDevice(const ApartOptions& options = {});

}  // namespace thermocline::testing
