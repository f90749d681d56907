#include "coordinator/plan_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/str.h"

namespace thermocline::coordinator {
namespace {

using placement::LinkProfile;
using placement::StagePlan;

// To three digits or so, without an exponent: people compare these.
std::string Rounded(double value) {
  const double digits = std::ceil(std::log10(std::max(value, 1e-9)));
  const double scale = std::pow(10, std::max(0.0, 3 - digits));
  return Str(std::round(value * scale) / scale);
}

std::string Milliseconds(double seconds) { return Rounded(1e3 * seconds) + " ms"; }

std::string ObjectiveText(double latency_weight) {
  if (latency_weight >= 1) return "latency";
  if (latency_weight <= 0) return "throughput";
  return Str(Rounded(100 * latency_weight), " % latency, the rest throughput");
}

std::string ForecastText(const placement::PlanForecast& forecast) {
  const std::string step = forecast.n_sequences == 1
                               ? std::string("a step")
                               : Str("a step of ", forecast.n_sequences, " sequences");
  return Str("\nexpected: ", step, " takes ", Milliseconds(forecast.step_s), ", ",
             Rounded(forecast.tokens_per_s_one()),
             " tokens/s one after another; the busiest worker ",
             Milliseconds(forecast.bottleneck_s), ", ", Rounded(forecast.tokens_per_s_many()),
             " tokens/s with enough of them under way");
}

std::set<WorkerId> Members(const placement::Plan& plan) {
  std::set<WorkerId> members;
  for (const StagePlan& stage : plan.stages) {
    members.insert(stage.lead);
    for (const placement::HelperPlan& helper : stage.helpers) members.insert(helper.worker);
  }
  return members;
}

// The way of a small message to the nearest of those who work.
double NearestSeconds(const PlanOutcome& planned, WorkerId spare,
                      const std::set<WorkerId>& members) {
  double nearest = std::numeric_limits<double>::infinity();
  for (const WorkerId member : members) {
    const LinkProfile* const link = planned.cluster.FindLink(spare, member);
    if (link == nullptr) continue;
    nearest = std::min(nearest, link->message_s.value + link->latency_s.value);
  }
  return nearest;
}

std::string SpareReason(const PlanOutcome& planned, WorkerId spare,
                        const std::set<WorkerId>& members) {
  if (!planned.forecast) return "the plan names it nowhere";
  return Str("no plan with it was found to be better; a message to it takes ",
             Milliseconds(NearestSeconds(planned, spare, members)), ", a step without it ",
             Milliseconds(planned.forecast->step_s));
}

}  // namespace

std::string PlanningText(const PlanJob& job) {
  const size_t n_workers = job.cluster.workers.size();
  const std::string workers = Str(n_workers, n_workers == 1 ? " worker" : " workers");
  if (!job.plan_json.empty()) return Str("checking the plan against ", workers);
  return Str("planning for ", workers, ": policy ", placement::SplitPolicyName(job.options.policy),
             ", objective ", ObjectiveText(job.options.latency_weight), ", steps of ",
             job.options.n_sequences, job.options.n_sequences == 1 ? " sequence" : " sequences");
}

std::string PlanText(const PlanOutcome& planned) {
  const placement::Plan& plan = planned.plan;
  std::string text =
      Str("plan: ", plan.stages.size(), plan.stages.size() == 1 ? " stage" : " stages",
          plan.has_links() ? Str(", joined by ", placement::LinkKindName(plan.link), " links (",
                                 DTypeName(plan.wire), ")")
                           : "",
          ", context ", plan.n_ctx, ", kv cache for ", plan.kv.n_tokens(), " tokens, found in ",
          Milliseconds(Seconds(planned.took)));
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    text += Str("\n  stage ", i, " on worker ", plan.stages[i].lead, ": ", plan.stages[i].reason);
    for (const placement::HelperPlan& helper : plan.stages[i].helpers) {
      text += Str("\n    helped by worker ", helper.worker, ": ", helper.reason);
    }
  }
  return planned.forecast ? text + ForecastText(*planned.forecast) : text;
}

std::string SparesText(const PlanOutcome& planned) {
  const std::set<WorkerId> members = Members(planned.plan);
  std::string text;
  for (const placement::WorkerProfile& worker : planned.cluster.workers) {
    if (members.contains(worker.id)) continue;
    text += Str("spare: worker ", worker.id, " on ", Printable(worker.host), ": ",
                SpareReason(planned, worker.id, members), "\n");
  }
  return text;
}

}  // namespace thermocline::coordinator
