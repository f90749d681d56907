// The device's memory for what lives within one op.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace thermocline::kernels::cuda {

// Of a device, taken when it is made: what a step needs beyond the plan is there before anybody
// asks how much is free, and no step waits for an allocation. Ops that would need more work in
// blocks. 32 MiB have room for the rounded rows of 512 tokens with 28672 columns (20 MiB), the
// partial sums of 31 tokens of AxpyRows (264 blocks of 512 columns each), and 4000 blocks of
// attention over chunks (8 rows of 130 floats each), 15 for each multiprocessor of an H200.
inline constexpr uint64_t kScratchBytes = uint64_t{32} << 20;
// One rounded row of the most columns that a model may have (model::kMaxFf) takes 1.4 MiB.
inline constexpr uint64_t kMinScratchBytes = uint64_t{2} << 20;
static_assert(kScratchBytes >= kMinScratchBytes);

// One region, used by one op after the other, in the order of the device's queue. Borrowed from the
// device. Trivially copyable.
class Scratch {
 public:
  Scratch(std::byte* data, uint64_t n_bytes) : data_(data), n_bytes_(n_bytes) {}

  std::byte* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  // How many pieces of that size fit, `wanted` at most.
  int64_t Room(int64_t wanted, uint64_t piece_bytes) const {
    return std::min(wanted, static_cast<int64_t>(n_bytes_ / std::max<uint64_t>(piece_bytes, 1)));
  }

 private:
  std::byte* data_;
  uint64_t n_bytes_;
};

}  // namespace thermocline::kernels::cuda
