#include "placement/card_group.h"

#include <algorithm>

#include "placement/plan_links.h"

namespace thermocline::placement {
namespace {

bool HasNeurons(const HelperPlan& helper) {
  return std::any_of(helper.neurons.begin(), helper.neurons.end(),
                     [](const NeuronRange& range) { return !range.empty(); });
}

bool AreOnOneCard(const WorkerProfile& a, const WorkerProfile& b) {
  return a.gpu == b.gpu && ShareHost(a, b);
}

}  // namespace

bool CardGroup::Has(int helper) const {
  return std::binary_search(helpers.begin(), helpers.end(), helper);
}

CardGroup GroupOf(const StagePlan& stage, const std::vector<int>& can_be) {
  const auto plan_of = [&](int h) -> const HelperPlan& {
    return stage.helpers[static_cast<size_t>(h)];
  };
  CardGroup group;
  for (const int h : can_be) {
    if (HasNeurons(plan_of(h))) group.helpers.push_back(h);
  }
  if (group.helpers.empty()) group.helpers = can_be;
  group.has_heads =
      !group.helpers.empty() && std::all_of(group.helpers.begin(), group.helpers.end(),
                                            [&](int h) { return !plan_of(h).heads.empty(); });
  return group;
}

CardGroup GroupOf(const StagePlan& stage, const ClusterProfile& cluster) {
  std::vector<const WorkerProfile*> members = {cluster.FindWorker(stage.lead)};
  const WorkerProfile& lead = *members.front();
  std::vector<int> can_be;
  if (lead.gpu < 0 || lead.nccl_version.empty()) return {};
  for (size_t h = 0; h < stage.helpers.size(); ++h) {
    const WorkerProfile& helper = *cluster.FindWorker(stage.helpers[h].worker);
    if (helper.gpu < 0 || helper.nccl_version != lead.nccl_version) continue;
    const bool is_taken = std::any_of(members.begin(), members.end(), [&](const auto* other) {
      return AreOnOneCard(*other, helper);
    });
    if (is_taken) continue;
    members.push_back(&helper);
    can_be.push_back(static_cast<int>(h));
  }
  return GroupOf(stage, can_be);
}

}  // namespace thermocline::placement
