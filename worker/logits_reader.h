// What the host is shown of logits that lie in a device's own memory: all of them, or the best few.
#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"

namespace thermocline::worker {

// The memory is for one block of rows at a time; what was fetched is valid until the next fetch.
// Step thread only.
class LogitsReader {
 public:
  LogitsReader() = default;
  // The device outlives it. kResourceExhausted when it gives no memory.
  static Result<LogitsReader> Create(kernels::Device& device, int64_t n_vocab, int max_rows);

  // Where best[n_rows, 2 * k] of logits is to be chosen to, on the device, with k up to
  // kernels::kMaxBest; the same place for all.
  TensorView Best(int64_t n_rows, int k) const;
  // Logits[n_rows, n_vocab], or the best of them, in host memory: where they are, or a copy.
  // kUnavailable when the device is lost.
  Result<TensorView> Fetch(TensorView there);

 private:
  kernels::Device* device_ = nullptr;
  Buffer host_;  // of a device with memory of its own
  Buffer best_;  // on the device
};

}  // namespace thermocline::worker
