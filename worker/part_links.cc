#include "worker/part_links.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/str.h"
#include "worker/executor.h"
#include "worker/host_rows.h"

namespace thermocline::worker {

LeadLinks::LeadLinks(Epoch epoch, int first_layer,
                     std::vector<std::vector<ActivationLink*>> members,
                     std::vector<ActivationLink*> group, const std::vector<ActivationLink*>& heads)
    : epoch_(epoch), first_layer_(first_layer), group_(std::move(group)) {
  for (const std::vector<ActivationLink*>& layer : members) {
    std::vector<size_t>& indexes = members_.emplace_back();
    for (ActivationLink* link : layer) indexes.push_back(IndexOf(link));
  }
  for (ActivationLink* link : heads) heads_.push_back(IndexOf(link));
}

size_t LeadLinks::IndexOf(ActivationLink* link) {
  const auto same = [&](const Helper& helper) { return helper.link == link; };
  const auto found = std::find_if(helpers_.begin(), helpers_.end(), same);
  if (found != helpers_.end()) return static_cast<size_t>(found - helpers_.begin());
  helpers_.push_back({link, {}});
  helpers_.back().asked.reserve(kMaxRuns);
  return helpers_.size() - 1;
}

proto::Part LeadLinks::PartOf(PartKey key, int64_t n_rows) const {
  return {.epoch = epoch_,
          .step = key.step,
          .layer = first_layer_ + key.layer_in_stage,
          .n_rows = n_rows,
          .of_heads = key.of_heads};
}

const proto::Message& LeadLinks::MessageOf(PartKey key, int64_t n_rows, const BatchRows& rows) {
  const bool tells = key.of_heads && key.layer_in_stage == 0;
  proto::Message& message = tells ? told_ : plain_;
  auto& part = std::get<proto::Part>(message);
  std::vector<proto::PartSequence> sequences = std::move(part.sequences);
  part = PartOf(key, n_rows);
  if (!tells) return message;
  sequences.resize(rows.sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    const kernels::SequenceRows& own = rows.sequences[i];
    sequences[i].first_position = own.first_position;
    sequences[i].n_tokens = own.n_tokens;
    sequences[i].page_ids.assign(own.page_ids.begin(), own.page_ids.end());
  }
  part.sequences = std::move(sequences);
  return message;
}

Status LeadLinks::SendX(PartKey key, TensorView x, const BatchRows& rows) {
  const proto::Message& message = MessageOf(key, x.n_rows, rows);
  for (const size_t index : MembersOf(key)) {
    TC_RETURN_IF_ERROR(helpers_[index].link->Send(message, x));
    helpers_[index].asked.push_back(key);
  }
  return OkStatus();
}

Result<bool> LeadLinks::TryReceiveSums(PartKey key, int peer, kernels::SumsView sums) {
  TC_ASSIGN_OR_RETURN(const bool arrived, TryReceive(key, peer, sums.n_rows));
  if (!arrived) return false;
  Helper& helper = helpers_[MembersOf(key)[static_cast<size_t>(peer - 1)]];
  TC_RETURN_IF_ERROR(helper.link->TakeSums(sums));
  return true;
}

Result<bool> LeadLinks::TryReceiveHeads(PartKey key, int peer, TensorView y) {
  TC_ASSIGN_OR_RETURN(const bool arrived, TryReceive(key, peer, y.n_rows));
  if (!arrived) return false;
  Helper& helper = helpers_[MembersOf(key)[static_cast<size_t>(peer - 1)]];
  TC_ASSIGN_OR_RETURN(const TensorView sent, helper.link->Activation(y.n_rows, y.n_cols));
  CopyRows(sent, y);
  return true;
}

Result<bool> LeadLinks::TryReceive(PartKey key, int peer, int64_t n_rows) {
  Helper& helper = helpers_[MembersOf(key)[static_cast<size_t>(peer - 1)]];
  if (helper.asked.empty() || helper.asked.front() != key) return false;
  ActivationLink& link = *helper.link;
  TC_ASSIGN_OR_RETURN(const bool arrived, link.TryReceive());
  if (!arrived) return false;
  TC_ASSIGN_OR_RETURN(const auto part, link.Header<proto::Part>());
  if (!part) return false;
  const proto::Part wanted = PartOf(key, n_rows);
  if (*part != wanted) {
    return DataLoss(Str("a helper's answer is of another step or layer than was asked for:",
                        Kv("worker", link.peer()), Kv("step", part->step), Kv("layer", part->layer),
                        Kv("wanted_step", key.step), Kv("wanted_layer", wanted.layer)));
  }
  helper.asked.erase(helper.asked.begin());
  return true;
}

// A frame without x, which comes by the group.
Status LeadLinks::Announce(PartKey key, int64_t n_rows, const BatchRows& rows) {
  const proto::Message& message = MessageOf(key, n_rows, rows);
  for (ActivationLink* link : group_) {
    TC_RETURN_IF_ERROR(link->Send(message, TensorView{}));
  }
  return OkStatus();
}

Status LeadLinks::Flush() {
  for (ActivationLink* link : group_) TC_RETURN_IF_ERROR(link->Flush().status());
  return OkStatus();
}

Result<std::optional<proto::Part>> HelperLink::Next(Duration wait) {
  TC_ASSIGN_OR_RETURN(const bool arrived, link_->Receive(wait));
  if (!arrived) return std::optional<proto::Part>();
  TC_ASSIGN_OR_RETURN(auto part, link_->Header<proto::Part>());
  if (part) {
    part_ = {.epoch = part->epoch,
             .step = part->step,
             .layer = part->layer,
             .n_rows = part->n_rows,
             .of_heads = part->of_heads};
  }
  return part;
}

Result<bool> HelperLink::TryReceiveX(PartKey key, TensorView x) {
  if (part_.layer != first_layer_ + key.layer_in_stage || part_.n_rows != x.n_rows ||
      part_.of_heads != key.of_heads) {
    return Internal(Str("another layer runs than the lead asked for:", Kv("layer", part_.layer)));
  }
  TC_ASSIGN_OR_RETURN(const TensorView sent, link_->Activation(x.n_rows));
  CopyRows(sent, x);
  return true;
}

Status HelperLink::SendSums(PartKey /*key*/, kernels::SumsView sums) {
  return link_->SendSums(part_, sums);
}

Status HelperLink::SendHeads(PartKey /*key*/, TensorView y) { return link_->Send(part_, y); }

}  // namespace thermocline::worker
