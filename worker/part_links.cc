#include "worker/part_links.h"

#include <cstring>

#include "base/str.h"
#include "proto/codec.h"

namespace thermocline::worker {
namespace {

void CopyRows(TensorView from, TensorView to) {
  for (int64_t i = 0; i < from.n_rows; ++i) {
    std::memcpy(to.row(i), from.row(i), static_cast<size_t>(from.n_cols) * sizeof(float));
  }
}

}  // namespace

void LeadLinks::BeginStep(Epoch epoch, StepId step) {
  epoch_ = epoch;
  step_ = step;
}

Status LeadLinks::Send(int layer_in_stage, TensorView x) {
  const proto::Part part{epoch_, step_, first_layer_ + layer_in_stage, x.n_rows};
  for (ActivationLink* link : members_[static_cast<size_t>(layer_in_stage)]) {
    TC_RETURN_IF_ERROR(link->Send(part, x));
  }
  return OkStatus();
}

Status LeadLinks::Receive(int layer_in_stage, int peer, TensorView x) {
  const auto& members = members_[static_cast<size_t>(layer_in_stage)];
  ActivationLink& link = *members[static_cast<size_t>(peer - 1)];
  TC_RETURN_IF_ERROR(link.Await());
  TC_ASSIGN_OR_RETURN(const proto::Part part, proto::DecodeAs<proto::Part>(link.header()));
  const proto::Part wanted{epoch_, step_, first_layer_ + layer_in_stage, x.n_rows};
  if (part != wanted) {
    return DataLoss(Str("a helper's sum is of another step or layer than was asked for:",
                        Kv("worker", link.peer()), Kv("step", part.step), Kv("layer", part.layer),
                        Kv("wanted_step", step_), Kv("wanted_layer", wanted.layer)));
  }
  TC_ASSIGN_OR_RETURN(const TensorView sum, link.Activation(x.n_rows));
  CopyRows(sum, x);
  return OkStatus();
}

Result<std::optional<proto::Part>> HelperLink::Next(Duration wait) {
  TC_ASSIGN_OR_RETURN(const bool arrived, link_->Receive(wait));
  if (!arrived) return std::optional<proto::Part>();
  TC_ASSIGN_OR_RETURN(part_, proto::DecodeAs<proto::Part>(link_->header()));
  return std::optional<proto::Part>(part_);
}

Status HelperLink::Receive(int layer_in_stage, int /*peer*/, TensorView x) {
  if (part_.layer != first_layer_ + layer_in_stage || part_.n_rows != x.n_rows) {
    return Internal(Str("another layer runs than the lead asked for:", Kv("layer", part_.layer)));
  }
  TC_ASSIGN_OR_RETURN(const TensorView sent, link_->Activation(x.n_rows));
  CopyRows(sent, x);
  return OkStatus();
}

Status HelperLink::Send(int /*layer_in_stage*/, TensorView x) { return link_->Send(part_, x); }

}  // namespace thermocline::worker
