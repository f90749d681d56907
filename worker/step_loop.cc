#include "worker/step_loop.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/cpu_list.h"
#include "base/half.h"
#include "base/host_info.h"
#include "base/log.h"
#include "base/str.h"
#include "base/units.h"
#include "proto/codec.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;

// How long the step thread waits before it looks whether it should stop.
constexpr Duration kPollInterval = milliseconds(100);
// The next stage may compute one step for minutes: 512 tokens of a stage with 30e9 weights are
// 3e13 operations, ten minutes at 50 GFLOP/s. Whether a stage is lost is the coordinator's to say,
// which then ends this loop; this bound, three of such steps, is for a coordinator that does not.
constexpr Duration kSendTimeout = std::chrono::minutes(30);
constexpr Duration kProgressInterval = milliseconds(100);
// Between two looks at a frame that is on its way while no batch waits: a first frame needs two or
// three (the connection, the receiver's consent), one that a busy receiver lets wait many.
constexpr Duration kFlushIntervalMin = std::chrono::microseconds(20);
constexpr Duration kFlushIntervalMax = milliseconds(1);
// Steps the coordinator may have in flight at once; it sends at most stages + 1.
constexpr size_t kQueuedSteps = 64;

uint64_t MicrosSince(const Clock& clock, TimePoint begin) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(clock.Now() - begin).count());
}

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

StepLoop::StepLoop(const StepContext& context, Assignment assignment,
                   std::function<void(Status)> on_end)
    : context_(context),
      assignment_(std::move(assignment)),
      on_end_(std::move(on_end)),
      submitted_(kQueuedSteps),
      thread_([this] { Run(); }) {}

StepLoop::~StepLoop() {
  stopping_ = true;
  submitted_.Close();
  thread_.join();
}

bool StepLoop::Submit(proto::StepBatch batch) { return submitted_.TryPush(std::move(batch)); }

void StepLoop::Run() {
  pthread_setname_np(pthread_self(), "tc-step");
  Status status = Prepare();
  if (status.ok()) status = ServeUntilStopped();
  if (stage_ != nullptr) LogFfn();
  // Links belong to this thread, MPI ones strictly so.
  previous_.reset();
  next_.reset();
  if (!status.ok() && !stopping_) on_end_(status);
}

Status StepLoop::Prepare() {
  TC_RETURN_IF_ERROR(RunOn(context_.cpus));
  const proto::AssignPlan& message = assignment_.message;
  // The fetch counts the bytes that come, the stage then those it reads from its copy.
  const auto on_progress = [&](uint64_t done, uint64_t total) {
    return ReportProgress(done, total);
  };
  TC_ASSIGN_OR_RETURN(model_,
                      OpenAssignedModel(assignment_, context_.clock, stopping_, on_progress));
  const uint64_t fetched_bytes = model_.fetched_bytes;
  if (!message.dump_logits_dir.empty() && assignment_.stage().layers.has_head) {
    TC_ASSIGN_OR_RETURN(logits_sink_, MakeLogitsDirectory(message.dump_logits_dir));
  }
  const StageOptions options{
      assignment_.stage().layers, {.modes = message.ffn}, message.plan.kv, message.max_step_tokens};
  TC_ASSIGN_OR_RETURN(stage_, Stage::Create(model_.source(), options, context_.device,
                                            logits_sink_.get(), on_progress));
  if (context_.data_port != nullptr) context_.data_port->SetSelf(assignment_.self);
  if (!message.previous_address.empty()) {
    const WorkerId peer = message.plan.stages[static_cast<size_t>(message.stage - 1)].lead;
    TC_ASSIGN_OR_RETURN(previous_, context_.data_port->Open(peer, message.previous_address));
  }
  if (!message.next_address.empty()) {
    const WorkerId peer = message.plan.stages[static_cast<size_t>(message.stage + 1)].lead;
    TC_ASSIGN_OR_RETURN(next_, context_.data_port->Open(peer, message.next_address));
  }
  traffic_at_start_ = context_.device.ops().traffic();
  const LoadReport& report = stage_->load_report();
  std::string note = report.note;
  if (message.weights_from == proto::WeightsFrom::kCoordinator) {
    note += Str(note.empty() ? "" : ", ", "fetched ", FormatBytes(fetched_bytes));
  }
  return SendControl(proto::Ready{message.plan.epoch, report.owned_bytes,
                                  std::max(report.read_bytes, fetched_bytes), PeakRssBytes(),
                                  std::move(note)});
}

// At the end, since auto learns while it serves.
void StepLoop::LogFfn() const {
  const kernels::Traffic read = context_.device.ops().traffic() - traffic_at_start_;
  if (read.n_neurons == 0) return LogInfo("worker", stage_->FfnText());
  LogInfo("worker", Str(stage_->FfnText(), Kv("density", read.density())));
}

Status StepLoop::ReportProgress(uint64_t bytes_done, uint64_t bytes_total) {
  if (stopping_) return Aborted("stopped while loading");
  const TimePoint now = context_.clock.Now();
  if (bytes_done < bytes_total && now - last_progress_ < kProgressInterval) return OkStatus();
  last_progress_ = now;
  const Status sent =
      SendControl(proto::LoadProgress{assignment_.message.plan.epoch, bytes_done, bytes_total});
  if (!sent.ok()) LogDebug("worker", Str("progress not sent: ", sent));
  return OkStatus();
}

Status StepLoop::ServeUntilStopped() {
  proto::StepBatch batch;
  TensorView input;
  while (!stopping_) {
    const TimePoint begin = context_.clock.Now();
    TC_ASSIGN_OR_RETURN(const bool arrived, NextBatch(&batch, &input));
    context_.counters.wait_us += MicrosSince(context_.clock, begin);
    if (arrived) TC_RETURN_IF_ERROR(RunBatch(&batch, input));
  }
  return OkStatus();
}

Result<bool> StepLoop::NextBatch(proto::StepBatch* batch, TensorView* input) {
  TC_ASSIGN_OR_RETURN(const bool arrived,
                      previous_ == nullptr ? NextSubmitted(batch) : NextFrame(batch));
  if (!arrived) return false;
  *input = TensorView{};
  if (batch->epoch < assignment_.message.plan.epoch) {
    ++context_.counters.stale_frames;
    return false;
  }
  if (previous_ != nullptr) {
    TC_ASSIGN_OR_RETURN(*input, DecodeActivation(*batch));
  }
  return true;
}

Result<bool> StepLoop::NextSubmitted(proto::StepBatch* batch) {
  return AwaitFlushing([&](Duration wait) -> Result<bool> {
    auto submitted = submitted_.Pop(wait);
    if (submitted) *batch = std::move(*submitted);
    return submitted.has_value();
  });
}

Result<bool> StepLoop::NextFrame(proto::StepBatch* batch) {
  const auto receive = [&](Duration wait) -> Result<bool> {
    const Status received = previous_->Receive(&frame_, context_.clock.Now() + wait);
    if (received.code() == StatusCode::kDeadlineExceeded) return false;
    if (!received.ok()) return received;
    return true;
  };
  TC_ASSIGN_OR_RETURN(const bool arrived, AwaitFlushing(receive));
  if (!arrived) return false;
  TC_ASSIGN_OR_RETURN(*batch, proto::DecodeAs<proto::StepBatch>(frame_.header));
  return true;
}

Result<bool> StepLoop::AwaitFlushing(const std::function<Result<bool>(Duration)>& attempt) {
  const TimePoint until = context_.clock.Now() + kPollInterval;
  for (Duration wait = kFlushIntervalMin;; wait = std::min(2 * wait, kFlushIntervalMax)) {
    bool flushed = true;
    if (next_ != nullptr) {
      TC_ASSIGN_OR_RETURN(flushed, next_->Flush());
    }
    TC_ASSIGN_OR_RETURN(const bool arrived, attempt(flushed ? until - context_.clock.Now() : wait));
    if (arrived || stopping_ || context_.clock.Now() >= until) return arrived;
  }
}

Result<TensorView> StepLoop::DecodeActivation(const proto::StepBatch& batch) {
  const DType wire = assignment_.message.plan.wire;
  const int64_t n_tokens = batch.n_tokens();
  const uint64_t expected =
      RowBytes(wire, static_cast<uint64_t>(model_.config.n_embd)) * static_cast<uint64_t>(n_tokens);
  if (frame_.payload.size() != expected) {
    return DataLoss(Str("activation has another size than its step:", Kv("step", batch.step),
                        Kv("bytes", frame_.payload.size()), Kv("expected", expected)));
  }
  float* data = reinterpret_cast<float*>(frame_.payload.data());
  if (wire != DType::kF32) {
    FromWire(frame_.payload, wire, &input_);
    data = input_.data();
  }
  return TensorView::F32(data, n_tokens, model_.config.n_embd);
}

Status StepLoop::RunBatch(proto::StepBatch* batch, TensorView input) {
  const TimePoint begin = context_.clock.Now();
  TC_RETURN_IF_ERROR(stage_->Run(*batch, input));
  const uint64_t took_us = MicrosSince(context_.clock, begin);
  batch->stage_compute_us.push_back(static_cast<uint32_t>(took_us));
  context_.counters.compute_us += took_us;
  context_.counters.kv_pages_used = stage_->kv_pages_used();
  ++context_.counters.steps_done;
  return stage_->is_last() ? SendResult(batch) : SendActivation(batch);
}

Status StepLoop::SendResult(proto::StepBatch* batch) {
  return SendControl(
      proto::StepResult{batch->epoch, batch->step, stage_->results(), batch->stage_compute_us});
}

Status StepLoop::SendActivation(proto::StepBatch* batch) {
  const TensorView x = stage_->activation();
  const DType wire = assignment_.message.plan.wire;
  std::span<const std::byte> payload(x.data, x.bytes());
  if (wire != DType::kF32 && x.n_rows > 0) {
    ToWire(x, wire, &wire_);
    payload = wire_;
  }
  proto::Encode(std::move(*batch), &header_);
  TC_RETURN_IF_ERROR(SendUnlessStopped({header_, payload}));
  context_.counters.link_bytes_sent = next_->stats().bytes_sent;
  return OkStatus();
}

Status StepLoop::SendUnlessStopped(const comm::FrameView& frame) {
  const TimePoint until = context_.clock.Now() + kSendTimeout;
  while (true) {
    const Status sent = next_->Send(frame, context_.clock.Now() + kPollInterval);
    if (sent.code() != StatusCode::kDeadlineExceeded || context_.clock.Now() >= until) return sent;
    if (stopping_) return Aborted("stopped while the next stage takes no frames");
  }
}

Status StepLoop::SendControl(const proto::Message& message) {
  std::vector<std::byte> bytes;
  proto::Encode(message, &bytes);
  return context_.mailbox.Send(comm::kServerPeer, {bytes, {}});
}

}  // namespace thermocline::worker
