#include "worker/activation_link.h"

#include <cstring>
#include <utility>

#include "base/half.h"
#include "base/str.h"
#include "placement/plan.h"
#include "proto/codec.h"

namespace thermocline::worker {
namespace {

// How long a wait lasts before it looks whether it should stop.
constexpr Duration kPollInterval = std::chrono::milliseconds(100);

void ToWire(TensorView x, DType wire, std::vector<std::byte>* out) {
  const auto n = static_cast<size_t>(x.n_rows * x.n_cols);
  out->resize(n * sizeof(uint16_t));
  const float* from = x.f32_row(0);
  for (size_t i = 0; i < n; ++i) {
    const uint16_t narrow = wire == DType::kF16 ? F32ToF16(from[i]) : F32ToBF16(from[i]);
    std::memcpy(out->data() + i * sizeof narrow, &narrow, sizeof narrow);
  }
}

void FromWire(std::span<const std::byte> bytes, DType wire, std::vector<float>* out) {
  out->resize(bytes.size() / sizeof(uint16_t));
  for (size_t i = 0; i < out->size(); ++i) {
    uint16_t narrow;
    std::memcpy(&narrow, bytes.data() + i * sizeof narrow, sizeof narrow);
    (*out)[i] = wire == DType::kF16 ? F16ToF32(narrow) : BF16ToF32(narrow);
  }
}

}  // namespace

ActivationLink::ActivationLink(const LinkContext& context, std::unique_ptr<comm::Link> link)
    : context_(context), link_(std::move(link)) {}

Status ActivationLink::Send(const proto::Message& header, TensorView x) {
  proto::Encode(header, &sent_);
  std::span<const std::byte> payload(x.data, x.bytes());
  if (context_.wire != DType::kF32 && x.n_rows > 0) {
    ToWire(x, context_.wire, &wired_);
    payload = wired_;
  }
  const TimePoint until = context_.clock.Now() + kSendTimeout;
  while (true) {
    const Status sent = link_->Send({sent_, payload}, context_.clock.Now() + kPollInterval);
    if (sent.code() != StatusCode::kDeadlineExceeded || context_.clock.Now() >= until) {
      return Noted(sent);
    }
    if (context_.stopping) return Aborted("stopped while a peer takes no frames");
  }
}

Result<bool> ActivationLink::Receive(Duration wait) {
  const Status received = link_->Receive(&frame_, context_.clock.Now() + wait);
  if (received.code() == StatusCode::kDeadlineExceeded) return false;
  if (!received.ok()) return Noted(received);
  return true;
}

Result<bool> ActivationLink::TryReceive() {
  auto received = link_->TryReceive(&frame_);
  if (!received.ok()) return Noted(received.status());
  return received;
}

Result<bool> ActivationLink::Flush() {
  auto flushed = link_->Flush();
  if (!flushed.ok()) return Noted(flushed.status());
  return flushed;
}

Status ActivationLink::Noted(const Status& status) {
  is_lost_ = is_lost_ || status.code() == StatusCode::kUnavailable;
  return status;
}

Result<TensorView> ActivationLink::Activation(int64_t n_rows) {
  const uint64_t expected = placement::ActivationBytes(context_.wire, n_rows, context_.n_embd);
  if (frame_.payload.size() != expected) {
    return DataLoss(
        Str("activation has another size than its header says:", Kv("peer", link_->peer()),
            Kv("bytes", frame_.payload.size()), Kv("expected", expected)));
  }
  auto* data = reinterpret_cast<float*>(frame_.payload.data());
  if (context_.wire != DType::kF32) {
    FromWire(frame_.payload, context_.wire, &floats_);
    data = floats_.data();
  }
  return TensorView::F32(data, n_rows, context_.n_embd);
}

}  // namespace thermocline::worker
