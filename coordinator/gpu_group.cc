#include "coordinator/gpu_group.h"

#include <algorithm>

#include "base/str.h"

namespace thermocline::coordinator {
namespace {

bool IsOnGpu(const proto::Hello* hello) { return hello != nullptr && !hello->gpu_uuid.empty(); }

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

}  // namespace

GpuGroup FindGpuGroup(const placement::StagePlan& stage,
                      const std::function<const proto::Hello*(WorkerId)>& hello) {
  GpuGroup group;
  const proto::Hello* const lead = hello(stage.lead);
  if (!IsOnGpu(lead)) return group;
  std::vector<std::string> cards = {lead->gpu_uuid};
  for (size_t h = 0; h < stage.helpers.size(); ++h) {
    const WorkerId worker = stage.helpers[h].worker;
    const proto::Hello* const helper = hello(worker);
    if (!IsOnGpu(helper)) continue;
    const std::string why_not = WhyNotTogether(*lead, *helper, cards);
    if (why_not.empty()) {
      group.helpers.push_back(static_cast<int>(h));
      cards.push_back(helper->gpu_uuid);
    } else {
      group.notes.push_back(Str("sums of worker ", worker, "'s GPU go to worker ", stage.lead,
                                " by way of the host: ", why_not));
    }
  }
  return group;
}

}  // namespace thermocline::coordinator
