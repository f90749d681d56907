#include "kernels/cuda/device.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/work_queue.h"
#include "kernels/lanes.h"

namespace thermocline::kernels::cuda {
namespace {

// Weights on their way: one half is packed by the host while the other is copied. 8 MiB last a
// PCIe 4 link 0.3 ms, long against what starting a copy takes.
constexpr uint64_t kStagingBytes = uint64_t{8} << 20;

// Page-locked memory in two halves. Owned by the device. Thread-compatible.
class Staging {
 public:
  explicit Staging(WorkQueue& queue) : queue_(queue) {}
  ~Staging() { Free(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // A half of at least n_bytes that no copy reads any more; null when there is no memory.
  std::byte* Begin(uint64_t n_bytes) {
    if (n_bytes > half_bytes_ && !Grow(n_bytes)) return nullptr;
    half_ ^= 1;
    (void)queue_.Wait(busy_until_[half_]);  // an error stays with the queue
    return data_ + half_ * half_bytes_;
  }
  // Of the half begun last, once its copies are enqueued.
  void End() { busy_until_[half_] = queue_.Mark(); }
  uint64_t half_bytes() const { return half_bytes_; }

 private:
  bool Grow(uint64_t n_bytes) {
    Free();
    const uint64_t wanted_bytes = std::max(n_bytes, kStagingBytes);
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
    (void)queue_.Wait(std::max(busy_until_[0], busy_until_[1]));
    queue_.runtime().FreePinned(data_);
    data_ = nullptr;
    half_bytes_ = 0;
  }

  WorkQueue& queue_;
  std::byte* data_ = nullptr;
  uint64_t half_bytes_ = 0;
  size_t half_ = 0;
  std::array<WorkMark, 2> busy_until_ = {};
};

// Owned by a worker, as kernels/device.h says. Outlives its buffers. Thread-compatible.
class CudaDevice final : public Device {
 public:
  // `sums` is one region of the device's memory and `copies` page-locked memory for kEvents of it.
  CudaDevice(std::unique_ptr<Runtime> runtime, std::byte* sums, std::byte* copies)
      : runtime_(std::move(runtime)),
        sums_(sums),
        copies_(copies),
        queue_(*runtime_, reinterpret_cast<TrafficSums*>(sums),
               reinterpret_cast<TrafficSums*>(copies)),
        ops_(queue_),
        staging_(queue_) {
    runtime_->EnqueueZero(sums, sizeof(TrafficSums));
  }
  ~CudaDevice() override {
    (void)Synchronize();  // nothing is under way when the memory goes
    runtime_->FreeDevice(sums_);
    runtime_->FreePinned(copies_);
  }

  std::string name() const override {
    return Str("cuda:", runtime_->facts().ordinal, " ", runtime_->facts().name);
  }
  Ops& ops() override { return ops_; }

  Result<Buffer> Allocate(uint64_t n_bytes) override {
    if (n_bytes == 0) return Buffer();
    std::byte* const data = runtime_->AllocateDevice(n_bytes);
    if (data == nullptr) {
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

  void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    if (n_bytes > 0) runtime_->EnqueueCopyToDevice(host, device, n_bytes);
  }
  void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    if (n_bytes > 0) runtime_->EnqueueCopyToHost(device, host, n_bytes);
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
  int64_t Pack(TensorView from, TensorView to) override;
  bool reads_host_memory() const override { return false; }
  void* stream() const override { return runtime_->stream(); }

 private:
  // Rows [first, first + n) of `to` from packed rows.
  void CopyRows(const TensorView& packed, const TensorView& to, int64_t first, int64_t n);

  std::unique_ptr<Runtime> runtime_;
  std::byte* const sums_;
  std::byte* const copies_;
  WorkQueue queue_;
  CudaOps ops_;
  Staging staging_;
};

int64_t CudaDevice::Pack(TensorView from, TensorView to) {
  const uint64_t row_bytes = RowBytes(to.dtype, static_cast<uint64_t>(to.n_cols));
  int64_t first = 0;
  while (first < from.n_rows) {
    std::byte* const half = staging_.Begin(row_bytes);
    if (half == nullptr) return -1;  // the next Wait says why
    const int64_t n =
        std::min(from.n_rows - first, static_cast<int64_t>(staging_.half_bytes() / row_bytes));
    TensorView packed = TensorView::Dense(half, to.dtype, n, to.n_cols);
    packed.layout = to.layout;
    for (int64_t i = 0; i < n; ++i) {
      if (!PackRow(from.Rows(first, n), i, packed)) return first + i;
    }
    CopyRows(packed, to, first, n);
    staging_.End();
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
  std::byte* const sums = runtime->AllocateDevice(sizeof(TrafficSums));
  std::byte* const copies = runtime->AllocatePinned(Runtime::kEvents * sizeof(TrafficSums));
  if (sums == nullptr || copies == nullptr) {
    if (sums != nullptr) runtime->FreeDevice(sums);
    if (copies != nullptr) runtime->FreePinned(copies);
    return ResourceExhausted(
        Str("no memory to begin with on a device:", Kv("device", runtime->facts().name)));
  }
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(std::move(runtime), sums, copies));
}

}  // namespace thermocline::kernels::cuda
