#include "comm/pinned_buffer.h"

#include <utility>

namespace thermocline::comm {

Result<PinnedBuffer> PinnedBuffer::Create(const Gpu& gpu) {
  TC_ASSIGN_OR_RETURN(Gpu::Event put, gpu.MakeEvent());
  TC_ASSIGN_OR_RETURN(Gpu::Event other, gpu.MakeEvent());
  return PinnedBuffer(gpu, std::move(put), std::move(other));
}

Status PinnedBuffer::Prepare(size_t n_bytes, TimePoint deadline) {
  if (is_putting_) TC_RETURN_IF_ERROR(gpu_->Await(put_, deadline));
  is_putting_ = false;
  if (is_fetching_) TC_RETURN_IF_ERROR(gpu_->Await(other_, deadline));
  is_fetching_ = false;
  if (n_bytes <= n_bytes_) return OkStatus();
  TC_ASSIGN_OR_RETURN(memory_, gpu_->AllocatePinned(n_bytes));
  n_bytes_ = n_bytes;
  return OkStatus();
}

Status PinnedBuffer::Fetch(std::span<const std::byte> data, GpuStream stream, TimePoint deadline) {
  TC_RETURN_IF_ERROR(gpu_->Copy(memory_.get(), data.data(), data.size(), stream));
  is_fetching_ = true;
  TC_RETURN_IF_ERROR(Await(stream, deadline));
  is_fetching_ = false;
  return OkStatus();
}

Status PinnedBuffer::Put(std::span<std::byte> data, GpuStream stream) {
  TC_RETURN_IF_ERROR(gpu_->Copy(data.data(), memory_.get(), data.size(), stream));
  is_putting_ = true;
  return gpu_->Record(put_, stream);
}

Status PinnedBuffer::Await(GpuStream stream, TimePoint deadline) {
  TC_RETURN_IF_ERROR(gpu_->Record(other_, stream));
  return gpu_->Await(other_, deadline);
}

}  // namespace thermocline::comm
