#include "kernels/cuda/device.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "kernels/cuda/fitness.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/work_queue.h"
#include "kernels/lanes.h"

namespace thermocline::kernels::cuda {
namespace {

// Weights on their way: one half is packed by the host while the other is copied. 8 MiB last a
// PCIe 4 link 0.3 ms, long against what starting a copy takes, and the wait at its end.
constexpr uint64_t kStagingBytes = uint64_t{8} << 20;

// Page-locked memory in two halves, which are filled piece by piece, whoever calls: neurons in
// heat order come a row at a time. Owned by the device. Thread-compatible.
class Staging {
 public:
  explicit Staging(WorkQueue& queue) : queue_(queue) {}
  ~Staging() { Free(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Room for one piece of `piece_bytes` at least, and for up to n_pieces of them, which no copy
  // reads; the copies from it are enqueued before the next call. Empty when there is no memory.
  std::span<std::byte> Take(uint64_t piece_bytes, uint64_t n_pieces) {
    if (piece_bytes > half_bytes_ && !Grow(piece_bytes)) return {};
    if (half_bytes_ - used_bytes_ < piece_bytes) Turn();
    const uint64_t n = std::min(n_pieces, (half_bytes_ - used_bytes_) / piece_bytes);
    std::byte* const taken = data_ + half_ * half_bytes_ + used_bytes_;
    used_bytes_ = std::min(half_bytes_, RoundUp(used_bytes_ + n * piece_bytes, kAlignBytes));
    return {taken, n * piece_bytes};
  }

 private:
  static constexpr uint64_t kAlignBytes = 64;  // of what packing writes: a cache line

  void Turn() {
    busy_until_[half_] = queue_.Mark();
    half_ ^= 1;
    used_bytes_ = 0;
    (void)queue_.Wait(busy_until_[half_]);  // an error stays with the queue
  }
  bool Grow(uint64_t n_bytes) {
    Free();
    const uint64_t wanted_bytes = std::max(RoundUp(n_bytes, kAlignBytes), kStagingBytes);
    data_ = queue_.runtime().AllocatePinned(2 * wanted_bytes);
    if (data_ == nullptr) {
      queue_.Fail(ResourceExhausted(
          Str("no page-locked memory to copy weights through:", Kv("bytes", 2 * wanted_bytes))));
      return false;
    }
    half_bytes_ = wanted_bytes;
    return true;
  }
  void Free() {
    if (data_ == nullptr) return;
    (void)queue_.Wait(queue_.Mark());
    queue_.runtime().FreePinned(data_);
    data_ = nullptr;
    half_bytes_ = 0;
    used_bytes_ = 0;
    busy_until_ = {};
  }

  WorkQueue& queue_;
  std::byte* data_ = nullptr;
  uint64_t half_bytes_ = 0;
  uint64_t used_bytes_ = 0;  // of the half that is being filled
  size_t half_ = 0;
  std::array<WorkMark, 2> busy_until_ = {};
};

// What a device has for itself, of which some is null without memory. Owned by the device; nothing
// uses it any more when it goes.
struct OwnMemory {
  explicit OwnMemory(Runtime& from)
      : runtime(from),
        sums(from.AllocateDevice(sizeof(TrafficSums))),
        scratch(from.AllocateDevice(from.facts().scratch_bytes)),
        copies(from.AllocatePinned(Runtime::kEvents * sizeof(TrafficSums))) {}
  ~OwnMemory() {
    if (sums != nullptr) runtime.FreeDevice(sums);
    if (scratch != nullptr) runtime.FreeDevice(scratch);
    if (copies != nullptr) runtime.FreePinned(copies);
  }
  OwnMemory(const OwnMemory&) = delete;
  OwnMemory& operator=(const OwnMemory&) = delete;
  bool is_complete() const { return sums != nullptr && scratch != nullptr && copies != nullptr; }

  Runtime& runtime;
  std::byte* const sums;     // of the device: one TrafficSums
  std::byte* const scratch;  // of the device
  std::byte* const copies;   // page-locked: sums as of each event
};

// Owned by a worker, as kernels/device.h says. Outlives its buffers. Thread-compatible.
class CudaDevice final : public Device {
 public:
  CudaDevice(std::unique_ptr<Runtime> runtime, std::unique_ptr<OwnMemory> memory)
      : runtime_(std::move(runtime)),
        own_(std::move(memory)),
        queue_(*runtime_, reinterpret_cast<TrafficSums*>(own_->sums),
               reinterpret_cast<TrafficSums*>(own_->copies)),
        ops_(queue_, {own_->scratch, runtime_->facts().scratch_bytes}),
        staging_(queue_) {
    runtime_->EnqueueZero(own_->sums, sizeof(TrafficSums));
  }
  ~CudaDevice() override { (void)Synchronize(); }  // nothing is under way when the memory goes

  std::string name() const override { return DeviceName(runtime_->facts()); }
  Ops& ops() override { return ops_; }

  Result<Buffer> Allocate(uint64_t n_bytes) override {
    if (n_bytes == 0) return Buffer();
    std::byte* const data = runtime_->AllocateDevice(n_bytes);
    if (data == nullptr) {
      TC_RETURN_IF_ERROR(Lost());
      return ResourceExhausted(
          Str("no device memory: ", name(), Kv("bytes", n_bytes), Kv("free", memory().free_bytes)));
    }
    runtime_->EnqueueZero(data, n_bytes);
    return Buffer::Adopt(
        data, n_bytes,
        [](void* runtime, std::byte* freed, uint64_t) {
          static_cast<Runtime*>(runtime)->FreeDevice(freed);
        },
        runtime_.get());
  }
  Result<Buffer> AllocateHost(uint64_t n_bytes) override {
    if (n_bytes == 0) return Buffer();
    std::byte* const data = runtime_->AllocatePinned(n_bytes);
    if (data == nullptr) {
      TC_RETURN_IF_ERROR(Lost());
      return ResourceExhausted(Str("no page-locked memory:", Kv("bytes", n_bytes)));
    }
    std::memset(data, 0, n_bytes);
    return Buffer::Adopt(
        data, n_bytes,
        [](void* runtime, std::byte* freed, uint64_t) {
          static_cast<Runtime*>(runtime)->FreePinned(freed);
        },
        runtime_.get());
  }
  DeviceMemory memory() const override {
    DeviceMemory memory;
    runtime_->MemoryInfo(&memory.free_bytes, &memory.total_bytes);
    return memory;
  }

  Status Prepare(const StepBounds& bounds) override {
    const Status prepared = ops_.Prepare(bounds);
    return prepared.ok() ? prepared : Status(prepared).WithContext(name());
  }

  void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    if (n_bytes > 0) runtime_->EnqueueCopyToDevice(host, device, n_bytes);
  }
  void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    if (n_bytes > 0) runtime_->EnqueueCopyToHost(device, host, n_bytes);
  }
  void CopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    if (n_bytes > 0) runtime_->EnqueueCopyWithin(from, to, n_bytes);
  }
  WorkMark Mark() override { return queue_.Mark(); }
  bool IsDone(WorkMark mark) override { return queue_.IsDone(mark); }
  Status Wait(WorkMark mark) override {
    const Status status = queue_.Wait(mark);
    if (!status.ok()) return Status(status).WithContext(name());
    if (mark != 0) ops_.FoldTraffic(queue_.SumsAt(mark));
    return OkStatus();
  }

  RowLayout PreferredLayout(DType dtype) const override {
    return HasLanes(dtype) ? RowLayout::kLanes : RowLayout::kFile;
  }
  bool has_fp8_rows() const override { return true; }
  int64_t Pack(TensorView from, TensorView to) override;
  bool reads_host_memory() const override { return false; }
  void* stream() const override { return runtime_->stream(); }
  StepRecorder* recorder() override { return ops_.recorder(); }

 private:
  // A lost device has no memory to give, which is not what is wrong with it.
  Status Lost() {
    const Status error = runtime_->Error();
    return error.ok() ? error : Status(error).WithContext(name());
  }
  // Rows [first, first + n) of `to` from packed rows.
  void CopyRows(const TensorView& packed, const TensorView& to, int64_t first, int64_t n);

  std::unique_ptr<Runtime> runtime_;
  const std::unique_ptr<OwnMemory> own_;  // outlives what marks and counts in it
  WorkQueue queue_;
  CudaOps ops_;
  Staging staging_;
};

int64_t CudaDevice::Pack(TensorView from, TensorView to) {
  const uint64_t row_bytes = RowBytes(to.dtype, static_cast<uint64_t>(to.n_cols));
  int64_t first = 0;
  while (first < from.n_rows) {
    const std::span<std::byte> room =
        staging_.Take(row_bytes, static_cast<uint64_t>(from.n_rows - first));
    if (room.empty()) return -1;  // the next Wait says why
    const auto n = static_cast<int64_t>(room.size() / row_bytes);
    TensorView packed = TensorView::Dense(room.data(), to.dtype, n, to.n_cols);
    packed.layout = to.layout;
    for (int64_t i = 0; i < n; ++i) {
      if (!PackRow(from.Rows(first, n), i, packed)) return first + i;
    }
    CopyRows(packed, to, first, n);
    first += n;
  }
  return -1;
}

void CudaDevice::CopyRows(const TensorView& packed, const TensorView& to, int64_t first,
                          int64_t n) {
  if (to.row_stride_bytes == packed.row_stride_bytes) {
    CopyToDevice(packed.data, to.row(first), packed.bytes());
    return;
  }
  const auto row_bytes = static_cast<uint64_t>(packed.row_stride_bytes);
  for (int64_t i = 0; i < n; ++i) CopyToDevice(packed.row(i), to.row(first + i), row_bytes);
}

}  // namespace

Result<std::unique_ptr<Device>> MakeDevice(std::unique_ptr<Runtime> runtime) {
  TC_RETURN_IF_ERROR(CheckCapability(runtime->facts()));
  auto memory = std::make_unique<OwnMemory>(*runtime);
  if (!memory->is_complete()) {
    memory.reset();  // before the runtime
    const Status error = runtime->Error();
    if (!error.ok()) return Status(error).WithContext(DeviceName(runtime->facts()));
    return ResourceExhausted(
        Str("no memory to begin with on a device:", Kv("device", DeviceName(runtime->facts())),
            Kv("bytes", runtime->facts().scratch_bytes)));
  }
  return std::unique_ptr<Device>(
      std::make_unique<CudaDevice>(std::move(runtime), std::move(memory)));
}

}  // namespace thermocline::kernels::cuda
