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
  // order, but for those that do so by the group, whose links `group` has. The links outlive this.
  // `first_layer` is the stage's.
  LeadLinks(Epoch epoch, int first_layer, std::vector<std::vector<ActivationLink*>> members,
            std::vector<ActivationLink*> group = {});

  Status SendX(PartKey key, TensorView x) override;
  Result<bool> TryReceiveSums(PartKey key, int peer, kernels::SumsView sums) override;
  Status Announce(PartKey key, int64_t n_rows) override;
  Status Flush() override;

 private:
  // A link with the questions on it that have no answer yet, oldest first: at most one of each
  // batch under way.
  struct Helper {
    ActivationLink* link = nullptr;
    std::vector<PartKey> asked;
  };
  size_t IndexOf(ActivationLink* link);
  proto::Part PartOf(PartKey key, int64_t n_rows) const;

  const Epoch epoch_;
  const int first_layer_;
  std::vector<Helper> helpers_;
  std::vector<std::vector<size_t>> members_;  // by layer, into helpers_
  const std::vector<ActivationLink*> group_;
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

 private:
  int first_layer_;
  ActivationLink* link_;
  proto::Part part_;
};

}  // namespace thermocline::worker
