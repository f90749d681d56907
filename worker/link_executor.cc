#include "worker/link_executor.h"

#include "base/str.h"

namespace thermocline::worker {
namespace {

PartKey KeyOf(const BatchRun& run, const LoweredOp& op) {
  return {run.step, op.layer_in_stage, op.of_heads};
}

// The values of a slot of sums, wherever they lie.
kernels::SumsView AsSums(TensorView view) {
  return {reinterpret_cast<double*>(view.data), view.n_rows, view.n_cols / 2};
}

Status NotThisMembers(const char* what) {
  return Internal(Str("not for this member of the stage to ", what));
}

}  // namespace

Status PartExchange::SendX(PartKey, TensorView, const BatchRows&) {
  return NotThisMembers("send x");
}
Result<bool> PartExchange::TryReceiveHeads(PartKey, int, TensorView) {
  return NotThisMembers("receive heads");
}
Status PartExchange::SendHeads(PartKey, TensorView) { return NotThisMembers("send heads"); }
Result<bool> PartExchange::TryReceiveSums(PartKey, int, kernels::SumsView) {
  return NotThisMembers("receive sums");
}
Result<bool> PartExchange::TryReceiveX(PartKey, TensorView) { return NotThisMembers("receive x"); }
Status PartExchange::SendSums(PartKey, kernels::SumsView) { return NotThisMembers("send sums"); }

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
  const TensorView slot = run.View(op.inputs[0]);
  CopyToHost(slot, host_rows_->Sent(run, slot.n_cols), device_);
  send->mark = device_.Mark();
}

Status LinkExecutor::Send(const UnderWay& send) {
  const BatchRun& run = RunOf(send.ref);
  const LoweredOp& op = run.op(send.ref.op);
  const TensorView slot = run.View(op.inputs[0]);
  const TensorView sent = host_rows_ == nullptr ? slot : host_rows_->Sent(run, slot.n_cols);
  const PartKey key = KeyOf(run, op);
  TC_RETURN_IF_ERROR(op.of_sums     ? exchange_->SendSums(key, AsSums(sent))
                     : op.is_answer ? exchange_->SendHeads(key, sent)
                                    : exchange_->SendX(key, sent, run.rows));
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
  const TensorView to =
      host_rows_ == nullptr ? slot : host_rows_->Received(run, op.peer, slot.n_cols);
  const PartKey key = KeyOf(run, op);
  constexpr int kLead = 0;
  TC_ASSIGN_OR_RETURN(const bool arrived,
                      op.of_sums         ? exchange_->TryReceiveSums(key, op.peer, AsSums(to))
                      : op.peer != kLead ? exchange_->TryReceiveHeads(key, op.peer, to)
                                         : exchange_->TryReceiveX(key, to));
  if (arrived && host_rows_ != nullptr) CopyToDevice(to, slot, device_);
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
