#include "kernels/cuda/upload_ring.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::kernels::cuda {

UploadRing::~UploadRing() {
  Release(old_host_, old_device_);
  Release(host_, device_);
}

void UploadRing::Release(std::byte* host, std::byte* device) {
  if (host != nullptr) queue_.runtime().FreePinned(host);
  if (device != nullptr) queue_.runtime().FreeDevice(device);
}

const std::byte* UploadRing::UploadBytes(UploadKind kind, std::span<const std::byte> bytes) {
  Kept& kept = kept_[static_cast<size_t>(kind)];
  if (kept.host != nullptr && kept.generation == generation_ && kept.n_bytes == bytes.size() &&
      std::equal(bytes.begin(), bytes.end(), kept.host)) {
    return kept.device;
  }
  std::byte* const staged = Stage(bytes.size());
  if (staged == nullptr) return nullptr;
  std::byte* const device = device_ + (staged - host_);
  if (!bytes.empty()) {
    std::memcpy(staged, bytes.data(), bytes.size());
    queue_.runtime().EnqueueCopyToDevice(staged, device, bytes.size());
  }
  kept = {staged, device, bytes.size(), generation_};
  return kept.device;
}

std::byte* UploadRing::Stage(uint64_t n_bytes) {
  if (!MakeRoom(n_bytes)) return nullptr;
  const uint64_t at = generation_ % kSegments * segment_bytes_ + used_bytes_;
  used_bytes_ += RoundUp(n_bytes, kAlignBytes);
  return host_ + at;
}

bool UploadRing::MakeRoom(uint64_t n_bytes) {
  if (queue_.has_failed()) return false;
  if (n_bytes > segment_bytes_ || host_ == nullptr) return Grow(SegmentFor(n_bytes)).ok();
  if (used_bytes_ + n_bytes <= segment_bytes_) return true;
  left_[generation_ % kSegments] = queue_.Mark();
  ++generation_;
  used_bytes_ = 0;
  return queue_.Wait(left_[(generation_ + kSegmentsPerOp - 1) % kSegments]).ok();
}

uint64_t UploadRing::SegmentFor(uint64_t n_bytes) {
  return RoundUp(n_bytes + kSegmentBytes, kSegmentBytes);
}

Status UploadRing::Reserve(uint64_t n_bytes) {
  const uint64_t wanted_bytes = SegmentFor(n_bytes);
  if (host_ != nullptr && wanted_bytes == segment_bytes_) return OkStatus();
  if (host_ != nullptr) TC_RETURN_IF_ERROR(queue_.Wait(queue_.Mark()));
  Release(std::exchange(old_host_, nullptr), std::exchange(old_device_, nullptr));
  Release(std::exchange(host_, nullptr), std::exchange(device_, nullptr));
  return Grow(wanted_bytes);
}

Status UploadRing::Grow(uint64_t segment_bytes) {
  if (host_ != nullptr) TC_RETURN_IF_ERROR(queue_.Wait(queue_.Mark()));
  Release(old_host_, old_device_);
  old_host_ = host_;
  old_device_ = device_;
  segment_bytes_ = segment_bytes;
  ++generation_;
  used_bytes_ = 0;
  left_ = {};
  host_ = queue_.runtime().AllocatePinned(segment_bytes * kSegments);
  device_ = queue_.runtime().AllocateDevice(segment_bytes * kSegments);
  if (host_ != nullptr && device_ != nullptr) return OkStatus();
  const Status error =
      ResourceExhausted(Str("no memory for uploads:", Kv("device", queue_.runtime().facts().name),
                            Kv("bytes", segment_bytes * kSegments)));
  queue_.Fail(error);
  return error;
}

}  // namespace thermocline::kernels::cuda
