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

template <typename T>
void ToWire(std::span<const T> values, DType wire, std::vector<std::byte>* out) {
  out->resize(values.size() * sizeof(uint16_t));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<float>(values[i]);
    const uint16_t narrow = wire == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(out->data() + i * sizeof narrow, &narrow, sizeof narrow);
  }
}

template <typename T>
void FromWire(std::span<const std::byte> bytes, DType wire, std::span<T> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t narrow;
    std::memcpy(&narrow, bytes.data() + i * sizeof narrow, sizeof narrow);
    out[i] = wire == DType::kF16 ? F16ToF32(narrow) : BF16ToF32(narrow);
  }
}

}  // namespace

ActivationLink::ActivationLink(const LinkContext& context, std::unique_ptr<comm::Link> link)
    : context_(context), link_(std::move(link)) {}

Status ActivationLink::Send(const proto::Message& header, TensorView x) {
  if (context_.wire == DType::kF32 || x.n_rows == 0) {
    return SendFrame(header, {x.data, x.bytes()});
  }
  const auto n_elems = static_cast<size_t>(x.n_rows * x.n_cols);
  ToWire(std::span<const float>(x.f32_row(0), n_elems), context_.wire, &wired_);
  return SendFrame(header, wired_);
}

Status ActivationLink::SendSums(const proto::Message& header, kernels::SumsView sums) {
  const std::span<const double> values(sums.data, static_cast<size_t>(sums.n_rows * sums.n_cols));
  if (context_.wire == DType::kF32) return SendFrame(header, std::as_bytes(values));
  ToWire(values, context_.wire, &wired_);
  return SendFrame(header, wired_);
}

Status ActivationLink::SendFrame(const proto::Message& header, std::span<const std::byte> payload) {
  proto::Encode(header, &sent_);
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

Status ActivationLink::CheckPayload(uint64_t expected) const {
  if (frame_.payload.size() == expected) return OkStatus();
  return DataLoss(
      Str("activation has another size than its header says:", Kv("peer", link_->peer()),
          Kv("bytes", frame_.payload.size()), Kv("expected", expected)));
}

Status ActivationLink::TakeSums(kernels::SumsView sums) {
  TC_RETURN_IF_ERROR(
      CheckPayload(placement::SumsBytes(context_.wire, sums.n_rows, context_.n_embd)));
  const std::span<double> to(sums.data, static_cast<size_t>(sums.n_rows * sums.n_cols));
  if (context_.wire == DType::kF32) {
    std::memcpy(to.data(), frame_.payload.data(), to.size_bytes());
  } else {
    FromWire(frame_.payload, context_.wire, to);
  }
  return OkStatus();
}

Result<TensorView> ActivationLink::Activation(int64_t n_rows, int64_t n_cols) {
  TC_RETURN_IF_ERROR(CheckPayload(placement::ActivationBytes(context_.wire, n_rows, n_cols)));
  auto* data = reinterpret_cast<float*>(frame_.payload.data());
  if (context_.wire != DType::kF32) {
    floats_.resize(static_cast<size_t>(n_rows * n_cols));
    FromWire(frame_.payload, context_.wire, std::span(floats_));
    data = floats_.data();
  }
  return TensorView::F32(data, n_rows, n_cols);
}

}  // namespace thermocline::worker
