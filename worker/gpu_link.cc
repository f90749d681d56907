#include "worker/gpu_link.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/str.h"
#include "comm/backoff.h"
#include "worker/host_rows.h"

namespace thermocline::worker {
namespace {

// Of the Part that ends a trial; the others' is 0.
constexpr StepId kTrialEnd{1};
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
// The largest batch that goes by NCCL, of which the sender's GPU holds comm::kPipeSlots times as
// much: 128 rows of n_embd 8192. Larger ones take so long to compute that their way is no matter.
constexpr int64_t kMaxPipeBytes = int64_t{4} << 20;
// Row counts are tried fourfold up to the largest; of so many tries the median counts.
constexpr int64_t kRowsStep = 4;
constexpr int kTries = 5;
// For an answer in a trial, and for putting a payload on a stream: both take milliseconds, or
// seconds where a driver loads kernels first.
constexpr Duration kAnswerTimeout = std::chrono::seconds(60);
constexpr Duration kPollInterval = std::chrono::milliseconds(100);

std::span<std::byte> BytesOf(TensorView x) { return {x.data, x.bytes()}; }

TensorView NoRows() { return TensorView::F32(nullptr, 0, 0); }

std::string Micros(double seconds) { return Str(static_cast<int64_t>(seconds * 1e6), " us"); }

}  // namespace

int64_t GpuLinkEnd::most_rows() const {
  const auto row_bytes = context_.n_embd * static_cast<int64_t>(sizeof(float));
  return std::clamp<int64_t>(kMaxPipeBytes / row_bytes, 1, context_.max_rows);
}

std::string GpuLinkEnd::peers() const { return Str("worker ", host_.peer(), "'s GPU"); }

Status GpuLinkEnd::MakeTrialRows() {
  const uint64_t n_bytes = DeviceRows(most_rows()).bytes();
  TC_ASSIGN_OR_RETURN(device_rows_, context_.device.Allocate(n_bytes));
  TC_ASSIGN_OR_RETURN(host_rows_, context_.device.AllocateHost(n_bytes));
  return OkStatus();
}

TensorView GpuLinkEnd::DeviceRows(int64_t n_rows) const {
  return TensorView::Dense(const_cast<std::byte*>(device_rows_.data()), DType::kF32, n_rows,
                           context_.n_embd);
}

TensorView GpuLinkEnd::HostRows(int64_t n_rows) const {
  return TensorView::Dense(const_cast<std::byte*>(host_rows_.data()), DType::kF32, n_rows,
                           context_.n_embd);
}

Status GpuLinkEnd::SendPart(int64_t n_rows, TensorView x) {
  return host_.Send(proto::Part{.epoch = context_.epoch, .n_rows = n_rows}, x);
}

Result<proto::Part> GpuLinkEnd::NextPart() {
  const TimePoint until = context_.clock.Now() + kAnswerTimeout;
  while (context_.clock.Now() < until) {
    TC_ASSIGN_OR_RETURN(const bool arrived, host_.Receive(kPollInterval));
    if (context_.stopping) return Aborted("stopped while GPUs are being joined");
    TC_RETURN_IF_ERROR(Check());
    if (!arrived) continue;
    TC_ASSIGN_OR_RETURN(const auto part, host_.Header<proto::Part>());
    if (!part) continue;  // of a plan before
    if (part->n_rows <= most_rows()) return *part;
    return DataLoss(Str("trial of a link with rows that no batch has:", Kv("peer", host_.peer()),
                        Kv("rows", part->n_rows), Kv("most", most_rows())));
  }
  return DeadlineExceeded(
      Str("no answer from the GPU at the other end of a link in time:", Kv("peer", host_.peer()),
          Kv("device", context_.device.name()), Kv("seconds", Seconds(kAnswerTimeout))));
}

Status GpuLinkEnd::Noted(const Status& status) {
  if (status.code() == StatusCode::kUnavailable) host_.NoteLoss();
  return status;
}

Status GpuLinkEnd::NotMet(const Status& why) {
  return Noted(why).WithContext(
      Str(context_.device.name(), " does not meet ", peers(), " (--nccl off does without)"));
}

// ---- The sender

Result<std::unique_ptr<GpuSender>> GpuSender::Join(const GpuLinkContext& context,
                                                   ActivationLink& host) {
  std::unique_ptr<GpuSender> end(new GpuSender(context, host));
  const GpuWays& ways = context.ways;
  const auto max_bytes = static_cast<size_t>(end->most_rows() * context.n_embd) * sizeof(float);
  auto pipe = comm::NcclSender::Join(*ways.nccl, *ways.gpu, {context.nccl_id, &context.stopping},
                                     max_bytes, context.clock.Now() + kGpusMeetTimeout);
  if (!pipe.ok()) return end->NotMet(pipe.status());
  end->pipe_ = *std::move(pipe);
  return end;
}

Status GpuSender::Measure() {
  TC_RETURN_IF_ERROR(MakeTrialRows());
  int64_t from = kNever;
  for (int64_t n = 1;; n = std::min(n * kRowsStep, most_rows())) {
    TC_ASSIGN_OR_RETURN(const double host_s, Time(n, [&] { return SendByHost(n); }));
    TC_ASSIGN_OR_RETURN(const double nccl_s, Time(n, [&] {
                          return Send(proto::Part{.epoch = context_.epoch, .n_rows = n},
                                      DeviceRows(n));
                        }));
    from = nccl_s < host_s ? std::min(from, n) : kNever;
    times_ = {n, host_s, nccl_s};
    if (n == most_rows()) break;
  }
  if (context_.ways.always_nccl) from = 1;
  rows_ = {from, most_rows()};
  device_rows_ = {};
  host_rows_ = {};
  return host_.Send(proto::Part{.epoch = context_.epoch, .step = kTrialEnd, .n_rows = 1}, NoRows());
}

Result<double> GpuSender::Time(int64_t n_rows, const std::function<Status()>& send) {
  std::array<double, kTries> seconds{};
  for (double& time : seconds) {
    const TimePoint begin = context_.clock.Now();
    TC_RETURN_IF_ERROR(send());
    TC_ASSIGN_OR_RETURN(const proto::Part answer, NextPart());
    if (answer.n_rows != n_rows) {
      return DataLoss(Str("another answer than was asked for:", Kv("peer", host_.peer()),
                          Kv("rows", answer.n_rows), Kv("asked", n_rows)));
    }
    time = Seconds(context_.clock.Now() - begin);
  }
  std::nth_element(seconds.begin(), seconds.begin() + kTries / 2, seconds.end());
  return seconds[kTries / 2];
}

Status GpuSender::SendByHost(int64_t n_rows) {
  CopyToHost(DeviceRows(n_rows), HostRows(n_rows), context_.device);
  TC_RETURN_IF_ERROR(context_.device.Synchronize());
  return SendPart(n_rows, HostRows(n_rows));
}

std::string GpuSender::Text() const {
  const std::string times = Str(" (", times_.n_rows, " rows and an answer: ", Micros(times_.nccl_s),
                                ", by way of the hosts ", Micros(times_.host_s), ")");
  if (rows_.from == kNever) return Str("by way of the hosts", times);
  return Str("by NCCL from ", rows_.from, " to ", rows_.most, " rows", times);
}

// Headers move while it waits, since the peer takes payloads when it has read them.
Status GpuSender::Send(const proto::Message& header, TensorView x) {
  const TimePoint until = context_.clock.Now() + ActivationLink::kSendTimeout;
  comm::Backoff backoff;
  while (true) {
    const Result<bool> has_slot = pipe_->HasSlot();
    if (!has_slot.ok()) return Noted(has_slot.status());
    if (*has_slot) break;
    TC_RETURN_IF_ERROR(host_.Flush().status());
    if (context_.stopping) return Aborted("stopped while a peer's GPU takes no payloads");
    if (!backoff.Pause(until)) {
      return DeadlineExceeded(Str("a peer's GPU takes no payloads:", Kv("peer", host_.peer()),
                                  Kv("under_way", comm::kPipeSlots),
                                  Kv("device", context_.device.name())));
    }
  }
  TC_RETURN_IF_ERROR(host_.Send(header, NoRows()));
  return Noted(
      pipe_->Send(BytesOf(x), context_.device.stream(), context_.clock.Now() + kAnswerTimeout));
}

// ---- The receiver

Result<std::unique_ptr<GpuReceiver>> GpuReceiver::Join(const GpuLinkContext& context,
                                                       ActivationLink& host) {
  std::unique_ptr<GpuReceiver> end(new GpuReceiver(context, host));
  const GpuWays& ways = context.ways;
  auto pipe = comm::NcclReceiver::Join(*ways.nccl, *ways.gpu, {context.nccl_id, &context.stopping},
                                       context.clock.Now() + kGpusMeetTimeout);
  if (!pipe.ok()) return end->NotMet(pipe.status());
  end->pipe_ = *std::move(pipe);
  return end;
}

Status GpuReceiver::Answer() {
  TC_RETURN_IF_ERROR(MakeTrialRows());
  while (true) {
    TC_ASSIGN_OR_RETURN(const proto::Part part, NextPart());
    if (part.step == kTrialEnd) break;
    const TensorView rows = DeviceRows(part.n_rows);
    if (host_.has_payload()) {
      TC_ASSIGN_OR_RETURN(const TensorView came, host_.Activation(part.n_rows));
      CopyRows(came, HostRows(part.n_rows));
      CopyToDevice(HostRows(part.n_rows), rows, context_.device);
    } else {
      TC_RETURN_IF_ERROR(Receive(rows));
    }
    TC_RETURN_IF_ERROR(context_.device.Synchronize());
    TC_RETURN_IF_ERROR(SendPart(part.n_rows, NoRows()));
  }
  device_rows_ = {};
  host_rows_ = {};
  return OkStatus();
}

Status GpuReceiver::Receive(TensorView x) {
  return Noted(
      pipe_->Receive(BytesOf(x), context_.device.stream(), context_.clock.Now() + kAnswerTimeout));
}

}  // namespace thermocline::worker
