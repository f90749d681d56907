// The links of a plan: which there are, who chooses their transports and wire types, and how they
// read.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/status.h"
#include "placement/pair_transport.h"
#include "placement/plan.h"
#include "placement/profile.h"

namespace thermocline::placement {

struct PlanFile;  // plan_tables.h

// Calls visit(from, to, choice) for every link: those of a stage to its helpers, then to the next
// stage. `plan` is a Plan, const or not, and so is the choice.
template <typename AnyPlan, typename Visit>
void ForEachLink(AnyPlan& plan, Visit visit) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    auto& stage = plan.stages[i];
    for (auto& helper : stage.helpers) visit(stage.lead, helper.worker, helper.to_lead);
    if (i + 1 < plan.stages.size()) visit(stage.lead, plan.stages[i + 1].lead, stage.to_next);
  }
}

// What a plan's text says of transports.
struct SaidTransports {
  std::optional<LinkKind> all;
  std::map<std::pair<WorkerId, WorkerId>, LinkKind> pairs;  // that it joins, both ways
};
// A text that is no plan says nothing: whoever reads it tells why.
SaidTransports TransportsOfText(std::string_view plan_json);
// As said; `otherwise` where nothing is.
PairTransport AsSaid(SaidTransports said, PairTransport otherwise);

// The type of activations between two workers.
class PairWires {
 public:
  PairWires() = default;
  explicit PairWires(DType all) : all_(all) {}
  static PairWires Of(const PlanRequest& request, const ClusterProfile& cluster);
  // Of the pairs that it joins.
  static PairWires Of(const Plan& plan);

  DType operator()(WorkerId a, WorkerId b) const;

 private:
  DType all_ = DType::kF32;
  std::map<std::pair<WorkerId, WorkerId>, DType> others_;  // both ways
};

// Has each link of the plan that says nothing of its transport or its wire type say what the
// request wants for that pair, where it is not what the plan has for all. What was `said` of all
// links stays so.
void ChooseLinks(const ClusterProfile& cluster, const PlanRequest& request, SaidOfLinks said,
                 Plan* plan);

// A plan's text, with what it leaves out of its links and KV as the request has it. The codes of
// PlanFileFromJson.
Result<PlanFile> ReadPlan(std::string_view text, const ClusterProfile& cluster,
                          const PlanRequest& request);

// "zmq (F16)"
std::string WayText(const LinkWay& way);
// " over zmq (F16)" where the link is another than the plan has it for all; else "".
std::string UnlikeText(const Plan& plan, const LinkChoice& choice);
// How all links travel: "zmq links (F32)"; "mpi (F32) and zmq (F16) links", the most frequent
// first; "" of a plan without links.
std::string WaysText(const Plan& plan);
// Two workers on hosts that have names, which are the same.
bool ShareHost(const WorkerProfile& a, const WorkerProfile& b);

}  // namespace thermocline::placement
