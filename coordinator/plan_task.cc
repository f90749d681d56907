#include "coordinator/plan_task.h"

#include <pthread.h>

#include <cstdio>
#include <fstream>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "placement/cluster_yaml.h"
#include "placement/forecast.h"
#include "placement/plan_links.h"
#include "placement/plan_tables.h"

namespace thermocline::coordinator {
namespace {

Status SaveCluster(const PlanJob& job) {
  if (job.save_cluster_path.empty()) return OkStatus();
  if (job.save_cluster_path == "-") {
    const bool written = std::fputs(placement::ClusterToYaml(job.cluster).c_str(), stdout) >= 0;
    if (written && std::fflush(stdout) == 0) return OkStatus();
    return Unavailable("--save-cluster: cannot write to stdout");
  }
  std::ofstream file(job.save_cluster_path, std::ios::binary | std::ios::trunc);
  file << placement::ClusterToYaml(job.cluster);
  file.close();
  if (file) return OkStatus();
  return Unavailable(Str("--save-cluster: cannot write ", job.save_cluster_path));
}

Status TakeGiven(const PlanSources& sources, const PlanJob& job, PlanOutcome* outcome) {
  TC_ASSIGN_OR_RETURN(GivenPlan given, PlanByHand(sources, job));
  outcome->plan = std::move(given.plan);
  outcome->order = std::move(given.order);
  outcome->order_note = std::move(given.order_note);
  if (outcome->order.layers.empty()) return OkStatus();
  const model::NeuronOrder files;
  outcome->heats = placement::HeatsInOrder(
      sources.heats, sources.order == nullptr ? files : *sources.order, outcome->order);
  return OkStatus();
}

void TakePlanned(placement::PlannedModel planned, PlanOutcome* outcome) {
  outcome->plan = std::move(planned.plan);
  outcome->forecast = std::move(planned.forecast);
  outcome->speed = planned.speed;
}

}  // namespace

Result<GivenPlan> PlanByHand(const PlanSources& sources, const PlanJob& job) {
  const placement::PlanRequest& request = job.options.request;
  TC_ASSIGN_OR_RETURN(placement::PlanFile file,
                      placement::ReadPlan(job.plan_json, job.cluster, request));
  file.plan.epoch = request.epoch;
  GivenPlan given;
  TC_ASSIGN_OR_RETURN(given.plan, placement::CompletePlan(std::move(file.plan), sources.config,
                                                          sources.weights, job.cluster, request));
  TC_ASSIGN_OR_RETURN(given.order, placement::OrderIn(file.tables, sources.config));
  given.order_note = placement::OrderNote(file.tables, job.neuron_order);
  return given;
}

Result<PlanOutcome> PlanFor(const PlanSources& sources, PlanJob job) {
  const SteadyClock clock;
  const TimePoint began = clock.Now();
  const Status saved = SaveCluster(job);
  if (job.must_save) TC_RETURN_IF_ERROR(saved);
  if (!saved.ok()) LogWarn("coordinator", saved.message());
  PlanOutcome outcome{.by_hand = !job.plan_json.empty()};
  if (outcome.by_hand) TC_RETURN_IF_ERROR(TakeGiven(sources, job, &outcome));
  const std::vector<placement::NeuronHeat>& planned = job.heats.empty() ? sources.heats : job.heats;
  const placement::PlannerInputs inputs{.config = sources.config,
                                        .weights = sources.weights,
                                        .sparsity = sources.sparsity,
                                        .heats = outcome.heats.empty() ? planned : outcome.heats,
                                        .cluster = job.cluster};
  if (outcome.by_hand) {
    TC_ASSIGN_OR_RETURN(placement::PlannedModel judged,
                        placement::JudgePlan(std::move(outcome.plan), inputs, job.options));
    TakePlanned(std::move(judged), &outcome);
  } else {
    TC_ASSIGN_OR_RETURN(placement::PlannedModel made, placement::MakePlan(inputs, job.options));
    TakePlanned(std::move(made), &outcome);
    if (job.rival) {
      const placement::PlannerInputs now{.config = sources.config,
                                         .weights = sources.weights,
                                         .sparsity = sources.sparsity,
                                         .heats = job.rival_heats,
                                         .cluster = job.cluster};
      // Without one of its workers, who may be about to leave, it is no rival.
      const auto rival = placement::SpeedOf(*job.rival, now, job.options);
      if (rival.ok()) outcome.rival = *rival;
    }
  }
  outcome.cluster = std::move(job.cluster);
  outcome.took = clock.Now() - began;
  return outcome;
}

PlanTask::PlanTask(const PlanSources& sources, PlanJob job, std::function<void()> on_done)
    : thread_([this, sources, job = std::move(job), on_done = std::move(on_done)]() mutable {
        pthread_setname_np(pthread_self(), "tc-plan");
        job.options.stop = &stop_;
        Result<PlanOutcome> outcome = PlanFor(sources, std::move(job));
        {
          const MutexLock lock(mutex_);
          outcome_ = std::move(outcome);
        }
        on_done();
      }) {}

PlanTask::~PlanTask() {
  stop_ = true;
  thread_.join();
}

std::optional<Result<PlanOutcome>> PlanTask::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(outcome_, std::nullopt);
}

}  // namespace thermocline::coordinator
