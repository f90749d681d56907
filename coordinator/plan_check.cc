#include "coordinator/plan_check.h"

#include <utility>

#include "base/str.h"
#include "placement/plan_links.h"
#include "placement/plan_tables.h"

namespace thermocline::coordinator {
namespace {

using placement::LinkChoice;
using placement::Plan;

// What the text leaves out is as it serves now, where the stages are the same.
Result<bool> SaysTheSame(const PlanJob& job, const Plan& serves, Plan next) {
  constexpr int kLeftOut = 0;
  Plan defaults{.link = serves.link, .wire = serves.wire, .kv = serves.kv};
  defaults.kv.n_pages = kLeftOut;
  defaults.micro_batches = kLeftOut;
  TC_ASSIGN_OR_RETURN(const placement::PlanFile file,
                      placement::PlanFileFromJson(job.plan_json, defaults));
  const Plan& given = file.plan;
  if (given.kv.n_pages == kLeftOut) next.kv.n_pages = serves.kv.n_pages;
  if (given.micro_batches == kLeftOut) next.micro_batches = serves.micro_batches;
  return AreAlike(std::move(next), serves);
}

Status CheckReachable(const Plan& next, const PlanCheck& check) {
  Status first;
  placement::ForEachLink(next, [&](WorkerId from, WorkerId to, const LinkChoice& choice) {
    for (const WorkerId id : {from, to}) {
      const proto::Hello& worker = check.workers.at(id);
      const std::string name = Str("worker ", id, " on ", Printable(worker.host));
      const Status reached = DataAddressOf(name, worker, next.WayOf(choice).link).status();
      if (!first.ok() || reached.ok()) continue;
      first = reached.WithContext(Str("link between worker ", from, " and worker ", to));
    }
  });
  return first;
}

// Has every link say all of how it travels, so that plans that mean the same are the same.
void SpellOutLinks(Plan* plan) {
  placement::ForEachLink(*plan, [&](WorkerId, WorkerId, LinkChoice& choice) {
    const placement::LinkWay way = plan->WayOf(choice);
    choice = {way.link, way.wire};
  });
  plan->link = {};
  plan->wire = {};
}

}  // namespace

bool AreAlike(Plan a, Plan b) {
  for (Plan* plan : {&a, &b}) {
    plan->epoch = {};
    SpellOutLinks(plan);
    for (placement::StagePlan& stage : plan->stages) {
      stage.reason.clear();
      stage.weights_bytes = stage.relay_bytes = stage.predictor_bytes = stage.kv_bytes = 0;
      stage.saved_bytes = 0;
      for (placement::HelperPlan& helper : stage.helpers) {
        helper.reason.clear();
        helper.bytes = {};
        helper.kv_bytes = 0;
      }
    }
  }
  return a == b;
}

bool StandAlike(const Plan& plan, const model::NeuronOrder& a, const model::NeuronOrder& b) {
  for (const placement::StagePlan& stage : plan.stages) {
    if (!stage.is_split()) continue;
    for (int layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
      if (!placement::AreEqualTables(a.Of(layer), b.Of(layer))) return false;
    }
  }
  return true;
}

Status CheckSameContext(const Plan& next, const Plan& now) {
  if (next.n_ctx == now.n_ctx && next.kv.page_tokens == now.kv.page_tokens) return OkStatus();
  return InvalidArgument(Str(
      "another plan of a running service keeps its context and pages:", Kv("n_ctx", next.n_ctx),
      Kv("now", now.n_ctx), Kv("page_tokens", next.kv.page_tokens), Kv("now", now.kv.page_tokens)));
}

Result<std::string> DataAddressOf(const std::string& name, const proto::Hello& worker,
                                  placement::LinkKind transport) {
  const bool mpi = transport == placement::LinkKind::kMpi;
  const std::string& address = mpi ? worker.mpi_address : worker.zmq_address;
  if (!address.empty()) return address;
  return InvalidArgument(
      Str("transport ", placement::LinkKindName(transport), " needs both ends to ",
          mpi ? "be MPI ranks" : "have data sockets", ": ", name, mpi ? " is none" : " has none",
          "; with --transport auto, and where a plan says nothing of a link, each pair takes what "
          "both have"));
}

std::optional<placement::LinkKind> SharedTransport(const proto::Hello& a, const proto::Hello& b) {
  if (!a.mpi_address.empty() && !b.mpi_address.empty()) return placement::LinkKind::kMpi;
  if (!a.zmq_address.empty() && !b.zmq_address.empty()) return placement::LinkKind::kZmq;
  return std::nullopt;
}

Result<bool> IsAnotherPlan(const PlanSources& sources, const PlanCheck& check,
                           const std::string& plan_json) {
  PlanJob job = check.job;
  job.plan_json = plan_json;
  TC_ASSIGN_OR_RETURN(GivenPlan next, PlanByHand(sources, job));
  TC_RETURN_IF_ERROR(CheckSameContext(next.plan, check.serves));
  TC_RETURN_IF_ERROR(CheckReachable(next.plan, check));
  const bool stand_alike =
      next.order.layers.empty() || StandAlike(next.plan, next.order, check.order);
  TC_ASSIGN_OR_RETURN(const bool is_same, SaysTheSame(job, check.serves, std::move(next.plan)));
  return !is_same || !stand_alike;
}

}  // namespace thermocline::coordinator
