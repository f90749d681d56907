#include "coordinator/plan_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/str.h"
#include "placement/forecast.h"
#include "placement/plan_links.h"

namespace thermocline::coordinator {
namespace {

using placement::Figure;
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

std::string ForecastText(const PlanOutcome& planned) {
  const placement::PlanForecast& forecast = planned.forecast;
  const placement::PlanSpeed& speed = planned.speed;
  const std::string together = speed.n_streams == 1
                                   ? ""
                                   : Str(", ", Rounded(speed.all_tokens_per_s), " for ",
                                         speed.n_streams, " streams together");
  const std::string held = placement::HeldText(speed);
  return Str(held.empty() ? "" : "\n", held, "\nexpected: ", Rounded(speed.one_tokens_per_s),
             " tokens/s for one stream", together, "; a step of ", forecast.n_sequences,
             forecast.n_sequences == 1 ? " sequence" : " sequences", " takes ",
             Milliseconds(forecast.step_s), ", ", Milliseconds(forecast.bottleneck_s),
             " of it the busiest worker");
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
  if (planned.by_hand) return "the plan names it nowhere";
  return Str("no plan with it was found to be better; a message to it takes ",
             Milliseconds(NearestSeconds(planned, spare, members)), ", a step without it ",
             Milliseconds(planned.forecast.step_s));
}

// "mpi", "mpi and zmq"
std::string TransportsText(const placement::ClusterProfile& cluster) {
  std::set<std::string_view> names;
  for (const LinkProfile& link : cluster.links) {
    names.insert(placement::LinkKindName(link.transport));
  }
  std::string text;
  for (const std::string_view name : names) text += Str(text.empty() ? "" : " and ", name);
  return text;
}

}  // namespace

std::string LinksText(const placement::ClusterProfile& cluster) {
  if (cluster.links.empty()) return "";
  const auto range = [&](Figure LinkProfile::*figure, double unit) {
    double least = std::numeric_limits<double>::infinity(), most = 0;
    for (const LinkProfile& link : cluster.links) {
      least = std::min(least, (link.*figure).value);
      most = std::max(most, (link.*figure).value);
    }
    const std::string low = Rounded(least / unit), high = Rounded(most / unit);
    return low == high ? low : Str(low, " to ", high);
  };
  const auto n_measured =
      std::count_if(cluster.links.begin(), cluster.links.end(), [](const LinkProfile& link) {
        return link.latency_s.origin == placement::Origin::kMeasured;
      });
  return Str("links: ", TransportsText(cluster), ", ", range(&LinkProfile::latency_s, 1e-6),
             " us one way, ", range(&LinkProfile::bytes_per_s, 1e9), " GB/s, ",
             range(&LinkProfile::message_s, 1e-6), " us of the sender; ", n_measured, " of ",
             cluster.links.size(), " directions measured");
}

std::string PlanningText(const PlanJob& job) {
  const size_t n_workers = job.cluster.workers.size();
  const std::string workers = Str(n_workers, n_workers == 1 ? " worker" : " workers");
  if (!job.plan_json.empty()) return Str("checking the plan against ", workers);
  return Str("planning for ", workers, ": policy ", placement::SplitPolicyName(job.options.policy),
             ", objective ", ObjectiveText(job.options.latency_weight), ", ", job.options.n_streams,
             job.options.n_streams == 1 ? " stream" : " streams", " with ", job.options.n_context,
             " tokens in the context");
}

std::string PlanText(const PlanOutcome& planned) {
  const placement::Plan& plan = planned.plan;
  std::string text =
      Str("plan: ", plan.stages.size(), plan.stages.size() == 1 ? " stage" : " stages",
          plan.has_links() ? Str(", joined by ", placement::WaysText(plan)) : "", ", context ",
          plan.n_ctx, ", kv cache for ", plan.kv.n_tokens(), " tokens, found in ",
          Milliseconds(Seconds(planned.took)));
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    const std::string on = placement::UnlikeText(plan, stage.to_next);
    text += Str("\n  stage ", i, " on worker ", stage.lead, placement::HeadsText(stage.heads),
                on.empty() ? "" : Str(", on to the next", on), ": ", stage.reason);
    for (const placement::HelperPlan& helper : stage.helpers) {
      text += Str("\n    helped by worker ", helper.worker, placement::HeadsText(helper.heads),
                  placement::UnlikeText(plan, helper.to_lead), ": ", helper.reason);
    }
  }
  return text + ForecastText(planned);
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
