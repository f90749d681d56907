#include "coordinator/gpu_group.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "placement/card_group.h"

namespace thermocline::coordinator {
namespace {

bool IsOnGpu(const proto::Hello* hello) { return hello != nullptr && !hello->gpu_uuid.empty(); }

// "" when they can.
std::string WhyNotLinked(const proto::Hello& from, const proto::Hello& to, DType wire) {
  if (from.nccl_version.empty() || to.nccl_version.empty()) return "there is no NCCL at both ends";
  if (from.nccl_version != to.nccl_version) {
    return Str("NCCL of two versions:", Kv("from", Printable(from.nccl_version)),
               Kv("to", Printable(to.nccl_version)));
  }
  if (from.gpu_uuid == to.gpu_uuid) return "both are on the same card";
  if (wire != DType::kF32) {
    return Str("the plan rounds them on their way:", Kv("wire", DTypeName(wire)));
  }
  if (from.nccl_link_id.empty()) return "its NCCL has no place to meet";
  return "";
}

// "" when they can.
std::string WhyNotTogether(const proto::Hello& lead, const proto::Hello& helper,
                           const std::vector<std::string>& cards) {
  if (lead.nccl_version.empty()) return "the lead has no NCCL";
  if (helper.nccl_version.empty()) return "it has no NCCL";
  if (helper.nccl_version != lead.nccl_version) {
    return Str(
        "its NCCL is another than the lead's:", Kv("version", Printable(helper.nccl_version)),
        Kv("lead", Printable(lead.nccl_version)));
  }
  if (std::find(cards.begin(), cards.end(), helper.gpu_uuid) != cards.end()) {
    return "another member is on the same card";
  }
  if (lead.nccl_id.empty()) return "the lead's NCCL has no place to meet";
  return "";
}

// Whose part keeps what others have in common from the group, which moves it for all or for none.
std::vector<std::string> WhatGoesByHosts(const placement::StagePlan& stage,
                                         const placement::CardGroup& group) {
  const auto helper = [&](int h) -> const placement::HelperPlan& {
    return stage.helpers[static_cast<size_t>(h)];
  };
  std::vector<std::string> notes;
  int n_layers = 0;  // with sums by way of the hosts
  WorkerId without;
  for (size_t layer = 0; layer < stage.neurons.size(); ++layer) {
    const auto has_none = [&](int h) { return helper(h).neurons[layer].empty(); };
    const auto one = std::find_if(group.helpers.begin(), group.helpers.end(), has_none);
    if (one == group.helpers.end() ||
        std::all_of(group.helpers.begin(), group.helpers.end(), has_none)) {
      continue;
    }
    ++n_layers;
    without = helper(*one).worker;
  }
  if (n_layers > 0) {
    notes.push_back(Str("sums of ", n_layers, n_layers == 1 ? " layer" : " layers",
                        " of the GPUs led by worker ", stage.lead,
                        " go by way of the hosts: not all of them have neurons there, as worker ",
                        without));
  }
  const auto has_heads = [&](int h) { return !helper(h).heads.empty(); };
  const auto one = std::find_if_not(group.helpers.begin(), group.helpers.end(), has_heads);
  if (!group.has_heads && std::any_of(group.helpers.begin(), group.helpers.end(), has_heads)) {
    notes.push_back(Str("heads of the GPUs led by worker ", stage.lead,
                        " go by way of the hosts: not all of them have some, as worker ",
                        helper(*one).worker));
  }
  return notes;
}

}  // namespace

GpuGroup FindGpuGroup(const placement::StagePlan& stage, const HelloOf& hello) {
  GpuGroup group;
  const proto::Hello* const lead = hello(stage.lead);
  if (!IsOnGpu(lead)) return group;
  std::vector<std::string> cards = {lead->gpu_uuid};
  std::vector<int> can_be;
  for (size_t h = 0; h < stage.helpers.size(); ++h) {
    const WorkerId worker = stage.helpers[h].worker;
    const proto::Hello* const helper = hello(worker);
    if (!IsOnGpu(helper)) continue;
    const std::string why_not = WhyNotTogether(*lead, *helper, cards);
    if (why_not.empty()) {
      can_be.push_back(static_cast<int>(h));
      cards.push_back(helper->gpu_uuid);
    } else {
      group.notes.push_back(Str("sums of worker ", worker, "'s GPU go to worker ", stage.lead,
                                " by way of the host: ", why_not));
    }
  }
  const placement::CardGroup chosen = placement::GroupOf(stage, can_be);
  group.helpers = chosen.helpers;
  for (const int h : can_be) {
    if (chosen.Has(h)) continue;
    group.notes.push_back(Str("heads of worker ", stage.helpers[static_cast<size_t>(h)].worker,
                              "'s GPU go to worker ", stage.lead,
                              " by way of the host: it has no neurons, whose sums others add"));
  }
  for (std::string& note : WhatGoesByHosts(stage, chosen)) group.notes.push_back(std::move(note));
  return group;
}

GpuLink FindGpuLink(const placement::Plan& plan, size_t i, const HelloOf& hello) {
  const placement::StagePlan& stage = plan.stages[i];
  const WorkerId next = plan.stages[i + 1].lead;
  const proto::Hello *const from = hello(stage.lead), *const to = hello(next);
  if (!IsOnGpu(from) || !IsOnGpu(to)) return {};
  const std::string why_not = WhyNotLinked(*from, *to, plan.WayOf(stage.to_next).wire);
  if (why_not.empty()) return {.nccl_id = from->nccl_link_id, .note = ""};
  return {.nccl_id = "",
          .note = Str("activations of worker ", stage.lead, "'s GPU go to worker ", next,
                      " by way of the hosts: ", why_not)};
}

}  // namespace thermocline::coordinator
