// The exchange of a shared stage over links: a star around the lead.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "proto/messages.h"
#include "worker/activation_link.h"
#include "worker/executor.h"

namespace thermocline::worker {

// The lead's end. Step thread only.
class LeadLinks final : public PartExchange {
 public:
  // `members[layer]`: the links of the helpers that share that layer of the stage, in the plan's
  // order. The links outlive this. `first_layer` is the stage's.
  LeadLinks(int first_layer, std::vector<std::vector<ActivationLink*>> members)
      : first_layer_(first_layer), members_(std::move(members)) {}

  // The step that the frames from now on belong to.
  void BeginStep(Epoch epoch, StepId step);

  Status Send(int layer_in_stage, TensorView x) override;
  Status Receive(int layer_in_stage, int peer, TensorView x) override;

 private:
  int first_layer_;
  std::vector<std::vector<ActivationLink*>> members_;
  Epoch epoch_;
  StepId step_;
};

// A helper's end: whatever the lead asks for comes with its layer and its rows. Step thread only.
class HelperLink final : public PartExchange {
 public:
  // The link outlives this.
  HelperLink(int first_layer, ActivationLink* link) : first_layer_(first_layer), link_(link) {}

  // What the lead wants next, within `wait`; nullopt: nothing yet.
  Result<std::optional<proto::Part>> Next(Duration wait);

  // Gives the x that came with the last Next, and answers it.
  Status Receive(int layer_in_stage, int peer, TensorView x) override;
  Status Send(int layer_in_stage, TensorView x) override;

 private:
  int first_layer_;
  ActivationLink* link_;
  proto::Part part_;
};

}  // namespace thermocline::worker
