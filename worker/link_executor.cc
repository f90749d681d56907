#include "worker/link_executor.h"

namespace thermocline::worker {
namespace {

PartKey KeyOf(const BatchRun& run, const LoweredOp& op) { return {run.step, op.layer_in_stage}; }

}  // namespace

Result<bool> LinkExecutor::Start(OpRef ref) {
  const BatchRun& run = (*runs_)[static_cast<size_t>(ref.run)];
  const LoweredOp& op = run.op(ref.op);
  if (op.kind == model::OpKind::kReceive) {
    receiving_.push_back(ref);
    return false;
  }
  TC_RETURN_IF_ERROR(exchange_->Send(KeyOf(run, op), run.View(op.inputs[0])));
  return true;
}

Result<bool> LinkExecutor::Poll(OpRef* done) {
  for (auto at = receiving_.begin(); at != receiving_.end(); ++at) {
    const BatchRun& run = (*runs_)[static_cast<size_t>(at->run)];
    const LoweredOp& op = run.op(at->op);
    TC_ASSIGN_OR_RETURN(const bool arrived,
                        exchange_->TryReceive(KeyOf(run, op), op.peer, run.View(op.output)));
    if (!arrived) continue;
    *done = *at;
    receiving_.erase(at);
    return true;
  }
  return false;
}

}  // namespace thermocline::worker
