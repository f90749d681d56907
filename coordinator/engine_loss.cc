// Planning around workers that are lost while the service runs: the steps under way are dropped,
// the others get a plan of their own, and the streams go on from their tokens (docs/adr/0020).
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"

namespace thermocline::coordinator {

// Of a worker that plan_ needs.
void Engine::LosePlan(WorkerId worker, const Status& why) {
  // One that only seems to be gone, or went wrong, must not go on by itself.
  const Status sent = SendToWorker(worker, proto::Failure{why});
  if (!sent.ok()) LogDebug("coordinator", sent.message());
  membership_.Remove(worker);
  workers_changed_ = true;
  ++plan_status_.n_lost;
  DropPlan(why);
}

// Whatever was going on with plans is over: it counted on workers that are gone.
void Engine::DropPlan(const Status& why) {
  if (plan_task_ != nullptr) {
    plan_task_->Stop();
    dropped_tasks_.push_back(std::move(plan_task_));
  }
  wish_ = {};
  change_.reset();
  join_survey_.reset();
  link_report_.reset();
  SchedulerActions actions;
  scheduler_->LoseSteps(why, &actions);
  sent_at_.clear();
  if (!loss_) loss_ = {why, clock_.Now()};
  Act(actions);
  SayNews(Str(why.message(), "; planning around it: streams wait meanwhile"));
}

Status Engine::PlanAround() {
  if (plan_task_ != nullptr) return OkStatus();
  return WishPlan({.why = loss_->why.message(), .is_around = true});
}

// Those who want to leave are asked to stay before the service ends.
Status Engine::NoPlanAround(const PlanWish& wish, const Status& why) {
  std::vector<WorkerId> leavers = membership_.Leavers(clock_.Now(), Duration(0));
  if (wish.others.empty() && !leavers.empty()) {
    return WishPlan({.why = wish.why, .others = std::move(leavers), .is_around = true});
  }
  return Status(loss_->why.code(),
                Str(loss_->why.message(),
                    "; the workers that are left cannot go on without it: ", why.message()));
}

// While they load the plan around others.
Status Engine::LoseStuck(const std::vector<WorkerId>& stuck, const Status& why) {
  for (const WorkerId worker : stuck) TC_RETURN_IF_ERROR(Lose(worker, why));
  return OkStatus();
}

}  // namespace thermocline::coordinator
