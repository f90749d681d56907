// The exchange of a shared stage over links: a star around the lead. Members of its group of GPUs
// hear here what comes; their values go by the group.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "proto/messages.h"
#include "worker/activation_link.h"
#include "worker/link_executor.h"
#include "worker/stage_group.h"

namespace thermocline::worker {

// The lead's end. A helper answers in the order in which it was asked, so what a link brings next
// is the answer to the oldest question on it. Step thread only.
class LeadLinks final : public PartExchange, public GroupNews {
 public:
  // `members[layer]`: the links of the helpers that share that layer of the stage, in the plan's
  // order, but for those that do so by the group, whose links `group` has; `heads`: of those that
  // share the heads of every layer. The links outlive this. `first_layer` is the stage's.
  LeadLinks(Epoch epoch, int first_layer, std::vector<std::vector<ActivationLink*>> members,
            std::vector<ActivationLink*> group = {},
            const std::vector<ActivationLink*>& heads = {});

  // Tells what the rows are with the heads of the first layer.
  Status SendX(PartKey key, TensorView x, const BatchRows& rows) override;
  Result<bool> TryReceiveSums(PartKey key, int peer, kernels::SumsView sums) override;
  Result<bool> TryReceiveHeads(PartKey key, int peer, TensorView y) override;
  Status Announce(PartKey key, int64_t n_rows, const BatchRows& rows) override;
  Status Flush() override;

 private:
  // A link with the questions on it that have no answer yet, oldest first: at most one of each
  // batch under way.
  struct Helper {
    ActivationLink* link = nullptr;
    std::vector<PartKey> asked;
  };
  size_t IndexOf(ActivationLink* link);
  const std::vector<size_t>& MembersOf(PartKey key) const {
    return key.of_heads ? heads_ : members_[static_cast<size_t>(key.layer_in_stage)];
  }
  proto::Part PartOf(PartKey key, int64_t n_rows) const;
  // For all of them, with the rows where these are to be told; until the next one.
  const proto::Message& MessageOf(PartKey key, int64_t n_rows, const BatchRows& rows);
  // Whether the answer to the oldest question to `peer`, if it is `key`, has come.
  Result<bool> TryReceive(PartKey key, int peer, int64_t n_rows);

  const Epoch epoch_;
  const int first_layer_;
  std::vector<Helper> helpers_;
  std::vector<std::vector<size_t>> members_;  // by layer, into helpers_
  std::vector<size_t> heads_;                 // into helpers_
  const std::vector<ActivationLink*> group_;
  proto::Message plain_ = proto::Part{},
                 told_ = proto::Part{};  // that go out; kept for their lists
};

// A helper's end: whatever the lead asks for comes with its layer and its rows. Step thread only.
class HelperLink final : public PartExchange {
 public:
  // The link outlives this.
  HelperLink(int first_layer, ActivationLink* link) : first_layer_(first_layer), link_(link) {}

  // What the lead wants next, within `wait`; nullopt: nothing yet.
  Result<std::optional<proto::Part>> Next(Duration wait);

  // Gives the x that came with the last Next, and answers it.
  Result<bool> TryReceiveX(PartKey key, TensorView x) override;
  Status SendSums(PartKey key, kernels::SumsView sums) override;
  Status SendHeads(PartKey key, TensorView y) override;

 private:
  int first_layer_;
  ActivationLink* link_;
  proto::Part part_;  // without its sequences
};

}  // namespace thermocline::worker
