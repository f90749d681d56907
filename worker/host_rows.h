// The host's side of an executor's rows, where the device has memory of its own: page-locked memory
// through which x, activations and sums pass.
#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "worker/batch_run.h"

namespace thermocline::worker {

struct HostRowsShape {
  int64_t n_embd = 0;
  int max_rows = 1;       // of all runs together
  int n_members = 1;      // that share a layer, this one included
  int64_t most_cols = 0;  // of what they send, where that is more than sums of n_embd
};

// Each run has the places of its rows, and each of these a use of its own, so that a place is
// written again only when a later mark has shown that the copy before is done: of what was received
// that is the mark of the next send, of an input that of the batch's end. Step thread only.
class HostRows {
 public:
  // kResourceExhausted when the device gives no such memory.
  static Result<HostRows> Create(kernels::Device& device, const HostRowsShape& shape);

  // [run.n_rows, n_embd]: the run's input, and at its end its result.
  TensorView Ends(const BatchRun& run) const { return At(run, 0, shape_.n_embd); }
  // What goes to the other members, as wide as a slot of x or of sums; there are some.
  TensorView Sent(const BatchRun& run, int64_t n_cols) const { return At(run, 1, n_cols); }
  // What came from member `peer`; the same.
  TensorView Received(const BatchRun& run, int peer, int64_t n_cols) const {
    return At(run, 2 + peer, n_cols);
  }

 private:
  TensorView At(const BatchRun& run, int use, int64_t n_cols) const;

  HostRowsShape shape_;
  int64_t place_cols_ = 0;  // of a row of a place
  Buffer memory_;
};

// Enqueues the copy of a dense view of host memory to the device's, or back.
void CopyToDevice(TensorView host, TensorView device, kernels::Device& on);
void CopyToHost(TensorView device, TensorView host, kernels::Device& on);
// Within host memory.
void CopyRows(TensorView from, TensorView to);

}  // namespace thermocline::worker
