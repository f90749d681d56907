// Workers that join while the cluster serves: their links are measured between steps, a pair at a
// time, before a plan with them is searched for. Who cannot be measured is assumed to be as such
// links usually are.
#include <set>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"
#include "placement/pool_alike.h"

namespace thermocline::coordinator {

// While nothing else goes on with plans.
Status Engine::MeasureJoined(TimePoint now) {
  if (join_survey_ != nullptr) {
    const Status late = join_survey_->CheckDeadline(now);
    if (late.ok()) return OkStatus();
    SkipJoinRound(late);
    return ContinueJoinSurvey();
  }
  // Of a worker that has come into the plan meanwhile the frames are activations.
  std::erase_if(joined_,
                [&](WorkerId id) { return !membership_.contains(id) || !membership_.IsSpare(id); });
  if (joined_.empty() || !scheduler_ || change_ || loss_ || plan_task_ != nullptr) {
    return OkStatus();
  }
  return StartJoinSurvey(now);
}

Status Engine::StartJoinSurvey(TimePoint now) {
  std::vector<placement::WorkerProfile> workers = membership_.profile().workers;
  std::erase_if(workers, [&](const auto& worker) { return !IsReachable(worker.id); });
  surveyed_ = joined_;
  join_survey_ = std::make_unique<LinkSurvey>(
      LinkSurvey::OfJoined(std::move(workers), joined_, TransportsAs(given_), now, first_round_));
  first_round_ = join_survey_->next_first_round();
  return ContinueJoinSurvey();
}

Status Engine::ContinueJoinSurvey() {
  while (join_survey_ != nullptr && !join_survey_->done()) {
    TC_ASSIGN_OR_RETURN(const bool asked, AskRound());
    if (asked) return OkStatus();
  }
  if (join_survey_ != nullptr) FinishJoinSurvey();
  return OkStatus();
}

// True when answers are awaited; false when the round is skipped, or the survey is over because a
// worker of the plan is lost.
Result<bool> Engine::AskRound() {
  for (auto& [worker, request] : join_survey_->TakeRequests(clock_.Now())) {
    const bool are_here = membership_.contains(worker) && membership_.contains(request.peer);
    auto address = are_here ? AddressOf(request.peer, request.transport)
                            : Result<std::string>(Unavailable("one of the two has left"));
    if (!address.ok()) {
      SkipJoinRound(address.status());
      return false;
    }
    request.address = *std::move(address);
    const Status sent = SendToWorker(worker, request);
    if (sent.ok()) continue;
    TC_RETURN_IF_ERROR(Lose(worker, sent));
    if (join_survey_ != nullptr) SkipJoinRound(sent);
    return false;
  }
  return true;
}

void Engine::SkipJoinRound(const Status& why) {
  LogWarn("coordinator", Str("link of a worker that joined is assumed: ", why.message(),
                             Kv("epoch", plan_.epoch)));
  SayNews(Str("a link was not measured and is assumed: ", why.message()));
  join_survey_->SkipRound();
}

// Links of those who are known stay as they are. The others are pooled, and told where they are so
// slow that nobody knows how slow.
size_t Engine::TakeLinks(const LinkSurvey& survey) {
  placement::ClusterProfile measured = membership_.profile();
  for (placement::LinkProfile& link : survey.Links()) {
    const bool is_new = surveyed_.contains(link.from) || surveyed_.contains(link.to);
    const bool is_here = measured.FindWorker(link.from) && measured.FindWorker(link.to);
    if (is_new && is_here) measured.links.push_back(std::move(link));
  }
  placement::PoolAlikeLinks(&measured);
  for (placement::LinkProfile& link : measured.links) {
    const bool is_slow = link.latency_s.origin == placement::Origin::kMeasured &&
                         link.bytes_per_s.origin == placement::Origin::kAssumed;
    if (is_slow && link.from < link.to) {
      SayNews(Str("link of ", membership_.NameOf(link.from), " and ", membership_.NameOf(link.to),
                  ": ", link.note));
    }
    cluster_.links.push_back(std::move(link));
  }
  return measured.links.size();
}

void Engine::FinishJoinSurvey() {
  const auto survey = std::exchange(join_survey_, nullptr);
  const size_t n_links = TakeLinks(*survey);
  const std::set<WorkerId> joined = std::exchange(surveyed_, {});
  for (const WorkerId id : joined) joined_.erase(id);
  has_new_links_ = has_new_links_ || n_links > 0;
  next_tick_ = clock_.Now();  // to plan with them
  if (n_links == 0) return;
  std::string names;
  for (const WorkerId id : joined) {
    if (!membership_.contains(id)) continue;
    names += Str(names.empty() ? "" : ", ", membership_.NameOf(id));
  }
  SayNews(Str("links of ", names, " measured between steps: ", n_links, " directions"));
}

}  // namespace thermocline::coordinator
