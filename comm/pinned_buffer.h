// Memory of the host between a GPU and what sends or receives on the host.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "comm/gpu.h"

namespace thermocline::comm {

// Owns pinned memory that only grows, so that a warm step allocates nothing. One thread at a time.
class PinnedBuffer {
 public:
  // `gpu` outlives it.
  static Result<PinnedBuffer> Create(const Gpu& gpu);

  // Room for `n_bytes`, once the last Put has read what was there, and a Fetch that was late has
  // written it. Before what is below.
  Status Prepare(size_t n_bytes, TimePoint deadline);
  std::span<std::byte> first(size_t n_bytes) const {
    return {static_cast<std::byte*>(memory_.get()), n_bytes};
  }
  // Copies `data` of the GPU to the beginning, after the work that is on `stream`, and waits.
  Status Fetch(std::span<const std::byte> data, GpuStream stream, TimePoint deadline);
  // Copies the beginning to `data` of the GPU, in the order of `stream`; does not wait.
  Status Put(std::span<std::byte> data, GpuStream stream);
  // Waits for all work on `stream`.
  Status Await(GpuStream stream, TimePoint deadline);

 private:
  PinnedBuffer(const Gpu& gpu, Gpu::Event put, Gpu::Event other)
      : gpu_(&gpu), put_(std::move(put)), other_(std::move(other)) {}

  const Gpu* gpu_;
  Gpu::Memory memory_;
  size_t n_bytes_ = 0;
  Gpu::Event put_;    // after the last Put
  Gpu::Event other_;  // after a Fetch, or what Await waits for
  bool is_putting_ = false;
  bool is_fetching_ = false;  // longer than its deadline
};

}  // namespace thermocline::comm
