#include "worker/link_executor.h"

#include "base/str.h"

namespace thermocline::worker {
namespace {

PartKey KeyOf(const BatchRun& run, const LoweredOp& op) { return {run.step, op.layer_in_stage}; }

}  // namespace

LinkExecutor::LinkExecutor(kernels::Device& device, std::vector<BatchRun>* runs)
    : device_(device), runs_(runs) {
  sending_.reserve(runs->size());
}

void LinkExecutor::set_tracer(Tracer* tracer, int first_layer) {
  tracer_ = tracer;
  first_layer_ = first_layer;
}

Result<bool> LinkExecutor::Start(OpRef ref) {
  const BatchRun& run = RunOf(ref);
  const LoweredOp& op = run.op(ref.op);
  UnderWay started{ref, tracer_ == nullptr ? TimePoint{} : tracer_->Now()};
  if (op.kind == model::OpKind::kReceive) {
    receiving_.push_back(started);
    return false;
  }
  if (host_rows_ != nullptr) {
    StartCopy(run, op, &started);
    sending_.push_back(started);
    return false;
  }
  TC_RETURN_IF_ERROR(Send(started));
  return true;
}

void LinkExecutor::StartCopy(const BatchRun& run, const LoweredOp& op, UnderWay* send) {
  CopyToHost(run.View(op.inputs[0]), host_rows_->Sent(run), device_);
  send->mark = device_.Mark();
}

Status LinkExecutor::Send(const UnderWay& send) {
  const BatchRun& run = RunOf(send.ref);
  const LoweredOp& op = run.op(send.ref.op);
  const TensorView x = host_rows_ == nullptr ? run.View(op.inputs[0]) : host_rows_->Sent(run);
  TC_RETURN_IF_ERROR(exchange_->Send(KeyOf(run, op), x));
  if (tracer_ != nullptr) Trace(run, op, tracer_->Track(kLinksTrack), send.since);
  return OkStatus();
}

Result<bool> LinkExecutor::Poll(OpRef* done) {
  TC_ASSIGN_OR_RETURN(const bool sent, PollSend(done));
  if (sent) return true;
  return PollReceives(done);
}

// Copies are done in the order of their starts.
Result<bool> LinkExecutor::PollSend(OpRef* done) {
  if (sending_.empty() || !device_.IsDone(sending_.front().mark)) return false;
  const UnderWay send = sending_.front();
  TC_RETURN_IF_ERROR(device_.Wait(send.mark));  // is over; whether it went well
  TC_RETURN_IF_ERROR(Send(send));
  *done = send.ref;
  sending_.erase(sending_.begin());
  return true;
}

Result<bool> LinkExecutor::AwaitSend() {
  if (sending_.empty()) return false;
  TC_RETURN_IF_ERROR(device_.Wait(sending_.front().mark));
  return true;
}

Result<bool> LinkExecutor::PollReceives(OpRef* done) {
  for (auto at = receiving_.begin(); at != receiving_.end(); ++at) {
    const BatchRun& run = RunOf(at->ref);
    const LoweredOp& op = run.op(at->ref.op);
    TC_ASSIGN_OR_RETURN(const bool arrived, TryReceive(run, op));
    if (!arrived) continue;
    // Waits of several batches for several members lie side by side.
    if (tracer_ != nullptr) {
      const std::string track = Str("from member ", op.peer, ", batch ", at->ref.run);
      Trace(run, op, tracer_->Track(track), at->since);
    }
    *done = at->ref;
    receiving_.erase(at);
    return true;
  }
  return false;
}

// The device's queue puts the copy before whatever reads it.
Result<bool> LinkExecutor::TryReceive(const BatchRun& run, const LoweredOp& op) {
  const TensorView slot = run.View(op.output);
  const TensorView x = host_rows_ == nullptr ? slot : host_rows_->Received(run, op.peer);
  TC_ASSIGN_OR_RETURN(const bool arrived, exchange_->TryReceive(KeyOf(run, op), op.peer, x));
  if (arrived && host_rows_ != nullptr) CopyToDevice(x, slot, device_);
  return arrived;
}

void LinkExecutor::Trace(const BatchRun& run, const LoweredOp& op, uint32_t track,
                         TimePoint begin) {
  const TensorView x = run.View(op.kind == model::OpKind::kSend ? op.inputs[0] : op.output);
  tracer_->Add({.name = tracer_->NameOf(op),
                .track = track,
                .layer = LayerOf(op, first_layer_),
                .step = run.step,
                .n_rows = run.n_rows,
                .n_bytes = x.bytes()},
               begin, tracer_->Now());
}

}  // namespace thermocline::worker
