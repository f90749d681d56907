// A place where ops run: its memory and its operators. Absent backends are another source file
// whose factory returns kUnavailable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/ops.h"
#include "kernels/step_recorder.h"

namespace thermocline::kernels {

// A point in the order of a device's work, as Device::Mark returns it; marks grow.
using WorkMark = uint64_t;

// What no step exceeds.
struct StepBounds {
  int64_t max_rows = 1;
  int64_t max_pages = 0;  // of keys and values, of all its sequences
  int head_dim = 0;       // 0: no attention
};

struct DeviceMemory {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};

// Owned by the worker that runs on it. Thread-compatible: one step thread at a time.
//
// A device with memory of its own works through one queue. Ops and copies enqueue and return; they
// start in the order of their calls. The host may go on once an op has returned: what it took from
// host memory (ids, positions, sequences with their page tables) was copied. Tensors, pages and
// active lists are then the device's memory, which the host must not touch; the host moves what it
// needs by CopyToDevice and CopyToHost and learns by a mark when that is done. On devices of host
// memory everything is done when its call returns. Errors of the device come with the next Wait.
class Device {
 public:
  virtual ~Device() = default;
  // For the node table: "cpu avx512 x4".
  virtual std::string name() const = 0;
  virtual Ops& ops() = 0;
  // Memory that the device's ops can read and write. kResourceExhausted when there is none.
  virtual Result<Buffer> Allocate(uint64_t n_bytes) = 0;
  // Host memory that copies reach without a detour: page-locked where the device is apart.
  // kResourceExhausted when there is none.
  virtual Result<Buffer> AllocateHost(uint64_t n_bytes) = 0;
  // What Allocate can still give, and the device's whole memory; both 0 where it is the host's.
  virtual DeviceMemory memory() const = 0;

  // Before the first step, and before weights are loaded: takes what ops within these bounds want
  // of memory beside their operands, so that no step waits for an allocation. kInvalidArgument when
  // they cannot be computed here, kResourceExhausted without memory.
  virtual Status Prepare(const StepBounds& bounds) = 0;

  // Enqueue a copy of n_bytes. The host's bytes must stay as they are, or unread, until a mark made
  // after the call is done.
  virtual void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) = 0;
  virtual void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) = 0;
  // Of the device's memory, from one place to another.
  virtual void CopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) = 0;
  // A mark behind everything enqueued so far.
  virtual WorkMark Mark() = 0;
  // Whether everything before the mark is done, without waiting. A mark that is many marks old may
  // be reported late.
  virtual bool IsDone(WorkMark mark) = 0;
  // Waits until it is. kUnavailable names the device and its first error; after that the device is
  // lost and every Wait says so.
  virtual Status Wait(WorkMark mark) = 0;
  Status Synchronize() { return Wait(Mark()); }

  // The arrangement in which the ops read rows of this type fastest.
  virtual RowLayout PreferredLayout(DType) const { return RowLayout::kFile; }
  // Whether the ops read rows of FP8 (kernels/fp8.h).
  virtual bool has_fp8_rows() const { return false; }
  // Copies the rows of `from`, in host memory and the file's arrangement, to those of `to`, in the
  // device's memory, whose layout is PreferredLayout. `to` may have another type when `from` is F32
  // (kernels/quantize.h). Memory of packed rows needs kLanesSlackBytes after the last.
  // Returns the first row of `from` that holds an infinite weight or one that is not a number; -1
  // when all are finite.
  virtual int64_t Pack(TensorView from, TensorView to) = 0;
  // Whether weights may be used where they lie in host memory (a mapped file), and views of the
  // device's memory read and written by the host.
  virtual bool reads_host_memory() const = 0;
  // The queue that its work is put in, as its driver knows it (a CUDA stream): others may put work
  // of theirs between. Null where there is none.
  virtual void* stream() const { return nullptr; }
  // By which steps are replayed; null where each op is launched anew.
  virtual StepRecorder* recorder() { return nullptr; }
};

struct CpuDeviceOptions {
  int n_threads = 1;
  // Thread i stays on cpus[i % cpus.size()], but for thread 0, which is the caller of the ops;
  // none: wherever the system puts them.
  std::vector<int> cpus;
};

// The instruction sets that this machine can run, best first: "avx512-vnni", "avx512", "avx2",
// "sse4", "neon", "scalar".
std::vector<std::string> InstructionSets();
// Lets every CPU device of this process use `name` and nothing better; "auto" is the best there is.
// For tests and measurements, while no device computes. kInvalidArgument names what this machine
// has, and leaves it "auto".
Status UseInstructionSet(std::string_view name);

// Scalar loops with double accumulators: the oracle of every other backend.
std::unique_ptr<Device> MakeReferenceDevice();
// Vector code for the instruction set found at run time; kInvalidArgument when n_threads < 1
// or a thread cannot run on its CPU.
Result<std::unique_ptr<Device>> MakeCpuDevice(const CpuDeviceOptions& options);
// kUnavailable when built without CUDA, without a driver that is new enough, or without such a GPU:
// one line says which.
Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal);

// What the GPUs that this process can see are called for life ("GPU-" and their UUID), in the order
// of their ordinals; nothing is started. kUnavailable as MakeCudaDevice; none is no error.
Result<std::vector<std::string>> CudaDeviceIds();

// For experiments: the same device, whose ops take `slowdown` times as long, 1 or more. Meant for
// devices whose ops are done when they return.
std::unique_ptr<Device> SlowDown(std::unique_ptr<Device> device, double slowdown);

// Re-lays w[n_out, n_in] as rows of the other dimension, y[n_in, n_out] of a float dtype. Exact
// when the dtypes are the same float type; from a quantised type each value is dequantised and
// rounded once. Used to store ffn_down with one row per neuron.
void TransposeToRows(TensorView w, TensorView y);

// Whether every weight of a row in the file's layout is finite; of quantised types, every scale.
bool IsFiniteRow(DType dtype, const std::byte* row, int64_t n_elems);

// Dequantises row `i` of w, whatever its type and layout, to out[n_cols].
void DequantizeRow(const TensorView& w, int64_t i, float* out);
// The same for a row in the file's layout.
void DequantizeRow(DType dtype, const std::byte* row, int64_t n_elems, float* out);

}  // namespace thermocline::kernels
