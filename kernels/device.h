// A place where ops run: its memory and its operators. Absent backends are another source file
// whose factory returns kUnavailable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/ops.h"

namespace thermocline::kernels {

// Owned by the worker that runs on it. Thread-compatible: one step thread at a time.
class Device {
 public:
  virtual ~Device() = default;
  // For the node table: "cpu avx512 x4".
  virtual std::string name() const = 0;
  virtual Ops& ops() = 0;
  // Memory that the device's ops can read and write. kResourceExhausted when there is none.
  virtual Result<Buffer> Allocate(uint64_t n_bytes) = 0;
  // The arrangement in which the ops read rows of this type fastest.
  virtual RowLayout PreferredLayout(DType) const { return RowLayout::kFile; }
  // Copies the rows of `from`, in the file's arrangement, to those of `to`, whose layout is
  // PreferredLayout. `to` may have another type when `from` is F32 (kernels/quantize.h). Memory of
  // packed rows needs kLanesSlackBytes after the last.
  virtual void Pack(TensorView from, TensorView to) = 0;
  // Whether weights may be used where they lie in host memory (a mapped file).
  virtual bool reads_host_memory() const = 0;
};

struct CpuDeviceOptions {
  int n_threads = 1;
};

// Scalar loops with double accumulators: the oracle of every other backend.
std::unique_ptr<Device> MakeReferenceDevice();
// Vector code for the instruction set found at run time; kInvalidArgument when n_threads < 1.
Result<std::unique_ptr<Device>> MakeCpuDevice(const CpuDeviceOptions& options);
// kUnavailable when built without CUDA or when there is no such GPU.
Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal);

// Re-lays w[n_out, n_in] as rows of the other dimension, y[n_in, n_out] of a float dtype. Exact
// when the dtypes are the same float type; from a quantised type each value is dequantised and
// rounded once. Used to store ffn_down with one row per neuron.
void TransposeToRows(TensorView w, TensorView y);

// Dequantises row `i` of w, whatever its type and layout, to out[n_cols].
void DequantizeRow(const TensorView& w, int64_t i, float* out);
// The same for a row in the file's layout.
void DequantizeRow(DType dtype, const std::byte* row, int64_t n_elems, float* out);

}  // namespace thermocline::kernels
