// Whether a running service could take a plan that somebody gives it, and whether anything would
// change by it.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/status.h"
#include "coordinator/plan_task.h"
#include "placement/plan.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

// What a plan is checked against: a copy, so that any thread may.
struct PlanCheck {
  PlanJob job;  // as for a plan by hand
  placement::Plan serves;
  model::NeuronOrder order;  // in which its neurons stand
  std::map<WorkerId, proto::Hello> workers;
};

// Of a hand-written plan: false when it is what the service does already. kInvalidArgument names
// the first violated rule.
Result<bool> IsAnotherPlan(const PlanSources& sources, const PlanCheck& check,
                           const std::string& plan_json);

// Whether neurons that several workers share in `plan` stand alike in both orders.
bool StandAlike(const placement::Plan& plan, const model::NeuronOrder& a,
                const model::NeuronOrder& b);

// Whether two plans let workers do the same; reasons are for people, and bytes follow from the
// rest.
bool AreAlike(placement::Plan a, placement::Plan b);

// What was accepted must fit the next plan too: kInvalidArgument when it has another context.
Status CheckSameContext(const placement::Plan& next, const placement::Plan& now);

// What two workers have for a link between them, MPI before ZeroMQ; nullopt: nothing.
std::optional<placement::LinkKind> SharedTransport(const proto::Hello& a, const proto::Hello& b);

// Where other workers reach this one; kInvalidArgument when it has no such port.
Result<std::string> DataAddressOf(const std::string& name, const proto::Hello& worker,
                                  placement::LinkKind transport);

}  // namespace thermocline::coordinator
