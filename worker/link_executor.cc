#include "worker/link_executor.h"

#include "base/str.h"

namespace thermocline::worker {
namespace {

PartKey KeyOf(const BatchRun& run, const LoweredOp& op) { return {run.step, op.layer_in_stage}; }

}  // namespace

void LinkExecutor::set_tracer(Tracer* tracer, int first_layer) {
  tracer_ = tracer;
  first_layer_ = first_layer;
}

Result<bool> LinkExecutor::Start(OpRef ref) {
  const BatchRun& run = (*runs_)[static_cast<size_t>(ref.run)];
  const LoweredOp& op = run.op(ref.op);
  if (op.kind == model::OpKind::kReceive) {
    receiving_.push_back({ref, tracer_ == nullptr ? TimePoint{} : tracer_->Now()});
    return false;
  }
  TC_RETURN_IF_ERROR(Send(run, op));
  return true;
}

Status LinkExecutor::Send(const BatchRun& run, const LoweredOp& op) {
  const TimePoint begin = tracer_ == nullptr ? TimePoint{} : tracer_->Now();
  TC_RETURN_IF_ERROR(exchange_->Send(KeyOf(run, op), run.View(op.inputs[0])));
  if (tracer_ != nullptr) Trace(run, op, tracer_->Track(kLinksTrack), begin);
  return OkStatus();
}

Result<bool> LinkExecutor::Poll(OpRef* done) {
  for (auto at = receiving_.begin(); at != receiving_.end(); ++at) {
    const BatchRun& run = (*runs_)[static_cast<size_t>(at->ref.run)];
    const LoweredOp& op = run.op(at->ref.op);
    TC_ASSIGN_OR_RETURN(const bool arrived,
                        exchange_->TryReceive(KeyOf(run, op), op.peer, run.View(op.output)));
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
