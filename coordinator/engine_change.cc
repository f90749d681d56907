// From one plan to the next while the service runs: steps cease, those under way are answered, all
// workers load what is new to them, and the streams go on. Frames of the epoch before are stale.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "base/units.h"
#include "coordinator/engine.h"
#include "placement/plan_tables.h"

namespace thermocline::coordinator {
namespace {

// A signal to the whole service reaches its workers too, whose wish to leave then means nothing.
constexpr Duration kSameEvent = std::chrono::milliseconds(300);

std::vector<WorkerId> WorkersOf(const placement::Plan& plan) {
  std::vector<WorkerId> workers;
  for (const placement::StagePlan& stage : plan.stages) {
    workers.push_back(stage.lead);
    for (const placement::HelperPlan& helper : stage.helpers) workers.push_back(helper.worker);
  }
  return workers;
}

}  // namespace

void Engine::SayNews(std::string line) {
  observer_.OnNews(line);
  plan_status_.news = std::move(line);
}

// What was asked for is not forgotten for a search that began by itself meanwhile.
Status Engine::StartAskedPlan() {
  if (!asked_plan_ || !scheduler_ || plan_task_ != nullptr || change_ || loss_) return OkStatus();
  if (asked_plan_->empty() && !joined_.empty()) return OkStatus();  // until their links are known
  std::string plan_json = std::move(*asked_plan_);
  asked_plan_.reset();
  const char* const why = plan_json.empty() ? "asked for" : "given";
  return WishPlan({.why = why, .plan_json = std::move(plan_json)});
}

// The plan is made beside the engine, and steps go on meanwhile.
Status Engine::WishPlan(PlanWish wish) {
  Result<PlanJob> job = JobOf(&wish);
  if (!job.ok()) return RefuseWish(wish, job.status());
  if (std::exchange(has_new_links_, false)) job->save_cluster_path = options_.save_cluster_path;
  job->must_save = false;  // streams are worth more than the file
  wish_ = std::move(wish);
  plan_task_ = std::make_unique<PlanTask>(sources_, std::move(*job), [this] { mailbox_.Wake(); });
  return OkStatus();
}

// Without those who want to leave and, where we choose, those whom our links do not reach.
Result<PlanJob> Engine::JobOf(PlanWish* wish) const {
  placement::ClusterProfile here = membership_.profile(wish->others);
  if (here.workers.empty()) return Unavailable("no other worker is left");
  TC_ASSIGN_OR_RETURN(PlanJob job,
                      JobFor(std::move(here), placement::TransportsOfText(wish->plan_json)));
  job.plan_json = wish->plan_json;
  std::vector<placement::WorkerProfile>& workers = job.cluster.workers;
  if (wish->plan_json.empty()) {
    std::erase_if(workers, [&](const auto& worker) { return !IsReachable(worker.id); });
  }
  if (workers.empty()) return Unavailable("no worker is left that our links reach");
  std::erase_if(job.cluster.links, [&](const auto& link) {
    return !job.cluster.FindWorker(link.from) || !job.cluster.FindWorker(link.to);
  });
  job.neuron_order = placement::OrderId(order_, sources_.config.n_layer);
  job.options.request.n_ctx = plan_.n_ctx;
  if (!options_.plan.link_by_pair) job.options.request.link = LinkOfAll();
  job.options.request.kv.page_tokens = plan_.kv.page_tokens;
  if (wish->plan_json.empty()) AddHeats(wish, &job);
  return job;
}

bool Engine::IsReachable(WorkerId worker) const {
  const proto::Hello& hello = membership_.hello(worker);
  if (!options_.plan.link_by_pair) return DataAddressOf("", hello, LinkOfAll()).ok();
  const std::vector<WorkerId> all = membership_.ids();
  return std::all_of(all.begin(), all.end(), [&](WorkerId other) {
    return SharedTransport(hello, membership_.hello(other)).has_value();
  });
}

Status Engine::OnNextPlan(Result<PlanOutcome> next) {
  PlanWish wish = std::exchange(wish_, {});
  const Status status = next.ok() ? CheckSameContext(next->plan, plan_) : next.status();
  if (!status.ok()) return RefuseWish(wish, status);
  if (next->by_hand) wish.order = next->order;
  if (!next->order_note.empty()) SayNews(next->order_note);
  if (wish.is_around) {
    TC_RETURN_IF_ERROR(KeepWorkers(wish.others, loss_->why));
    BeginChange(std::move(*next), std::move(wish));
  } else if (AreAlike(next->plan, plan_) && !StandsOtherwise(next->plan, wish.order)) {
    SayNews(Str("another plan (", wish.why, ") would be the same again"));
  } else if (!wish.must_gain || IsWorthChanging(*next, wish)) {
    BeginChange(std::move(*next), std::move(wish));
  }
  return OkStatus();
}

Status Engine::RefuseWish(const PlanWish& wish, const Status& why) {
  if (wish.is_around) return NoPlanAround(wish, why);
  if (wish.leavers.size() > 1) {
    return WishToLeave({wish.leavers[0]}, {wish.leavers.begin() + 1, wish.leavers.end()});
  }
  if (!wish.leavers.empty()) return KeepWorkers(wish.leavers, why);
  SayNews(Str("no other plan (", wish.why, "): ", why.message()));
  return OkStatus();
}

// From here on no step is formed.
void Engine::BeginChange(PlanOutcome next, PlanWish wish) {
  next.plan.epoch = {plan_.epoch.value + 1};
  join_survey_.reset();  // begins again over the next plan, with those who are spare then
  SayNews(Str("changing to another plan (", wish.why, "): streams wait meanwhile"));
  change_ = {.next = std::move(next),
             .why = std::move(wish.why),
             .order = std::move(wish.order),
             .asked_at = loss_ ? loss_->at : clock_.Now(),
             .gain = wish.must_gain ? plan_status_.predicted_gain : 0,
             .leavers = std::move(wish.leavers)};
}

Status Engine::ContinueChange() {
  if (change_->is_loading || scheduler_->has_outstanding()) return OkStatus();
  const std::vector<WorkerId> workers = WorkersOf(change_->next.plan);
  const bool all_here = std::all_of(workers.begin(), workers.end(),
                                    [&](WorkerId worker) { return membership_.contains(worker); });
  if (all_here) return LoadNextPlan();
  // Who wants to leave still does, and is planned without once more.
  AbandonChange(Unavailable("one of its workers has gone meanwhile"));
  return OkStatus();
}

Status Engine::LoadNextPlan() {
  const model::NeuronOrder order_before = order_;
  const std::set<int> tabled_before = tabled_;
  TakeOrder(change_->next.plan, change_->order);
  std::swap(plan_, change_->next.plan);
  const auto assignments = AssignmentsOfAll();
  if (!assignments.ok()) {
    std::swap(plan_, change_->next.plan);
    order_ = order_before;
    tabled_ = tabled_before;
    if (loss_) return assignments.status();  // there is no plan to stay with
    const std::vector<WorkerId> leavers = std::move(change_->leavers);
    AbandonChange(assignments.status());
    return KeepWorkers(leavers, assignments.status());
  }
  link_report_.reset();  // of the plan before
  change_->next.plan = plan_;
  change_->order_before = order_before;
  change_->is_loading = true;
  TakeHeats(change_->next);
  SetExpected(change_->next);
  NoteLinks(change_->next.cluster);
  loading_since_ = clock_.Now();
  membership_.OnPlan(plan_, clock_.Now());
  workers_changed_ = true;
  observer_.OnPlan(change_->next);
  observer_.OnLoadProgress(membership_.Statuses(clock_.Now()));
  return SendPlan(*assignments);
}

void Engine::AbandonChange(const Status& why) {
  SayNews(Str(loss_ ? "that plan cannot be had: " : "the plan stays as it is: ", why.message()));
  change_.reset();
}

// A worker that beats but loads nothing hangs: the plan before comes back without it, if that can
// be.
Status Engine::CheckLoadDeadline(TimePoint now) {
  const bool is_loading = change_ ? change_->is_loading : !scheduler_ && !plan_.stages.empty();
  if (!is_loading) return OkStatus();
  const std::vector<WorkerId> stuck = membership_.StuckLoading(now, options_.load_timeout);
  if (stuck.empty()) return OkStatus();
  std::string names;
  for (const WorkerId id : stuck) names += Str(names.empty() ? "" : ", ", membership_.NameOf(id));
  const WorkerStatus first = StatusOf(stuck.front());
  const Status why = DeadlineExceeded(
      Str(names, stuck.size() > 1 ? " have" : " has", " loaded nothing more for ",
          Seconds(options_.load_timeout), " s (--load-timeout): ", FormatBytes(first.bytes_done),
          " of ", FormatBytes(first.bytes_total)));
  if (!change_) return why;
  if (loss_ || change_->is_return) return LoseStuck(stuck, why);
  return ReturnToPlanBefore(stuck, why);
}

// Under an epoch of its own, since some have dropped what they had of it. Those who hang and have
// no place in it are given up; if one has, and goes on hanging, it is planned around.
Status Engine::ReturnToPlanBefore(const std::vector<WorkerId>& stuck, const Status& why) {
  SayNews(Str("going back to the plan before: ", why.message()));
  Change back{.next = served_,
              .why = "the plan before is back",
              .order = InFull(std::move(change_->order_before)),
              .asked_at = change_->asked_at,
              .is_return = true};
  back.next.plan.epoch = {plan_.epoch.value + 1};
  const std::vector<WorkerId> leavers = std::move(change_->leavers);
  change_ = std::move(back);
  TC_RETURN_IF_ERROR(KeepWorkers(leavers, why));
  const std::vector<WorkerId> needed = WorkersOf(served_.plan);
  for (const WorkerId worker : stuck) {
    if (std::find(needed.begin(), needed.end(), worker) == needed.end()) GiveUp(worker, why);
  }
  for (const WorkerId worker : needed) {
    if (membership_.contains(worker)) continue;
    DropPlan(why);  // nothing is left to go back to
    return OkStatus();
  }
  return LoadNextPlan();
}

void Engine::GiveUp(WorkerId worker, const Status& why) {
  const Status sent = SendToWorker(worker, proto::Failure{why});
  if (!sent.ok()) LogDebug("coordinator", sent.message());
  observer_.OnWorkerLeft(StatusOf(worker), why);
  membership_.Remove(worker);
  workers_changed_ = true;
}

void Engine::FinishChange() {
  const TimePoint now = clock_.Now();
  const SchedulerOptions scheduler = ServingOptions();
  scheduler_->ChangePlan(scheduler);
  {
    const MutexLock lock(mutex_);
    limits_ = scheduler;
  }
  ++plan_status_.n_changes;
  plan_status_.why = std::move(change_->why);
  plan_status_.pause_s = Seconds(now - change_->asked_at);
  plan_status_.change_gain = change_->gain;
  plan_status_.predicted_gain = 0;  // was over the plan before
  plan_status_.drift = live_heat_.DriftFrom(order_, planned_heats_);
  plan_status_.kept_bytes = change_->kept_bytes;
  plan_status_.read_bytes = change_->read_bytes;
  plan_status_.news = Str("epoch ", plan_.epoch, " serves (", plan_status_.why, ")");
  plan_changed_at_ = last_progress_at_ = now;
  served_ = std::move(change_->next);
  change_.reset();
  loss_.reset();
  workers_changed_ = true;
  LogInfo("coordinator",
          Str("serving on", Kv("epoch", plan_.epoch), Kv("stages", plan_.stages.size()),
              Kv("pause_s", plan_status_.pause_s), Kv("kept", plan_status_.kept_bytes),
              Kv("read", plan_status_.read_bytes)));
  observer_.OnPlanChanged(plan_, plan_status_);
  next_tick_ = now;  // lets those go who are not in it any more
}

// Spares go at once; others when a plan without them serves. All together if they can, else one
// after the other.
Status Engine::HandleLeavers(TimePoint now) {
  if (change_ || loss_ || plan_task_ != nullptr || !scheduler_) return OkStatus();
  std::vector<WorkerId> needed;
  for (const WorkerId worker : membership_.Leavers(now, kSameEvent)) {
    membership_.IsSpare(worker) ? LetGo(worker) : needed.push_back(worker);
  }
  if (needed.empty()) return OkStatus();
  if (options_.replan == ReplanMode::kOff) {
    return KeepWorkers(needed, Unavailable("this service keeps its plan (--replan off)"));
  }
  return WishToLeave(std::move(needed), {});
}

Status Engine::WishToLeave(std::vector<WorkerId> leavers, std::vector<WorkerId> others) {
  std::string names;
  for (const WorkerId id : leavers) names += Str(names.empty() ? "" : ", ", membership_.NameOf(id));
  return WishPlan({.why = Str(names, leavers.size() > 1 ? " leave" : " leaves"),
                   .leavers = std::move(leavers),
                   .others = std::move(others)});
}

void Engine::LetGo(WorkerId worker) {
  const Status sent = SendToWorker(worker, proto::Shutdown{"its work is done elsewhere now"});
  if (!sent.ok()) LogDebug("coordinator", sent.message());
  observer_.OnWorkerLeft(StatusOf(worker),
                         Unavailable(Str(membership_.NameOf(worker), " has left")));
  membership_.Remove(worker);
  workers_changed_ = true;
}

Status Engine::KeepWorkers(const std::vector<WorkerId>& workers, const Status& why) {
  for (const WorkerId worker : workers) {
    if (!membership_.contains(worker)) continue;  // lost meanwhile
    membership_.SetLeaving(worker, false, clock_.Now());
    SayNews(Str(membership_.NameOf(worker), " asked to leave but is needed: ", why.message()));
    const Status sent = SendToWorker(worker, proto::Stay{why.message()});
    if (!sent.ok()) TC_RETURN_IF_ERROR(Lose(worker, sent));
  }
  workers_changed_ = true;
  return OkStatus();
}

}  // namespace thermocline::coordinator
