#include "coordinator/link_survey.h"

#include <algorithm>
#include <cmath>
#include <compare>

#include "base/check.h"
#include "base/str.h"
#include "placement/card_way.h"
#include "placement/link_preset.h"

namespace thermocline::coordinator {
namespace {

using placement::Figure;
using placement::LinkProfile;
using placement::WorkerProfile;

// Messages to and from busy workers, and the first answer of a slow link, may take this long more.
constexpr Duration kSurveyGrace = std::chrono::seconds(1);
// A fast link has given all samples that are wanted long before.
constexpr Duration kMostPerRound = std::chrono::milliseconds(250);
// A step of a large prompt takes seconds; who cannot begin until then is not measured.
constexpr Duration kJoinPatience = std::chrono::seconds(5);

uint32_t Micros(Duration d) {
  return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(d).count());
}

// One pair for all alike between two hosts: n workers meet in n - 1 rounds, or n.
bool StandForOthers(const std::vector<WorkerProfile>& workers) {
  const size_t n = workers.size();
  return n + n % 2 > kMaxSurveyRounds + 1;
}

ProbeRounds RoundsFor(const std::vector<WorkerProfile>& workers) {
  if (StandForOthers(workers)) return RoundsOfHosts(workers);
  std::vector<WorkerId> ids;
  for (const WorkerProfile& worker : workers) ids.push_back(worker.id);
  return RoundsOfAll(ids);
}

// The rate is known to be below that of `link`; nobody knows by how much. A bound that says
// nothing, since there was no time, is no reason to think better of it than of others.
void AssumeSlow(LinkProfile* link) {
  const auto usual = placement::FindLinkPreset(placement::kDefaultLinkPreset);
  CHECK(usual.ok());
  const double bound = link->bytes_per_s.value, usual_bytes_per_s = usual->gb_per_s * 1e9;
  link->bytes_per_s = Figure::Assumed(std::min(bound, usual_bytes_per_s));
  link->note = bound < usual_bytes_per_s
                   ? Str("slower than ", std::round(bound / 1e4) / 100,
                         " MB/s: a large frame did not come back in time")
                   : "its way is so long that there was no time to measure its rate";
}

// What makes links alike: between the same hosts, copies of a GPU at the same ends.
struct Kind {
  std::string host;
  bool is_gpu = false;
  auto operator<=>(const Kind&) const = default;
};

Kind KindOf(const WorkerProfile& worker) {
  return {worker.host, placement::CardOf(worker) != nullptr};
}

std::map<Kind, std::vector<WorkerId>> ByKind(const std::vector<WorkerProfile>& workers) {
  std::map<Kind, std::vector<WorkerId>> kinds;
  for (const WorkerProfile& worker : workers) kinds[KindOf(worker)].push_back(worker.id);
  return kinds;
}

}  // namespace

ProbeRounds RoundsOfAll(const std::vector<WorkerId>& workers) {
  if (workers.size() < 2) return {};
  // Seat 0 stays, the others move on by one each round; an odd one out has a seat opposite nobody.
  const size_t n = workers.size() + workers.size() % 2;
  ProbeRounds rounds;
  for (size_t round = 0; round + 1 < n; ++round) {
    std::vector<ProbePair>& pairs = rounds.emplace_back();
    const auto seat = [&](size_t i) { return i == 0 ? 0 : 1 + (i - 1 + round) % (n - 1); };
    for (size_t i = 0; i < n / 2; ++i) {
      const size_t a = std::min(seat(i), seat(n - 1 - i)), b = std::max(seat(i), seat(n - 1 - i));
      if (b < workers.size()) pairs.push_back({workers[a], workers[b]});
    }
  }
  return rounds;
}

ProbeRounds RoundsOfHosts(const std::vector<WorkerProfile>& workers) {
  std::vector<WorkerId> firsts;
  std::vector<ProbePair> within;
  for (const auto& [kind, ids] : ByKind(workers)) {
    firsts.push_back(ids[0]);
    if (ids.size() > 1) within.push_back({ids[0], ids[1]});
  }
  ProbeRounds rounds = RoundsOfAll(firsts);
  if (!within.empty()) rounds.push_back(std::move(within));
  return rounds;
}

ProbeRounds RoundsOfJoined(const std::vector<WorkerProfile>& workers,
                           const std::set<WorkerId>& joined) {
  ProbeRounds rounds, of_kinds;
  std::set<std::pair<Kind, Kind>> kinds;
  for (size_t i = 0; i < workers.size(); ++i) {
    for (size_t j = i + 1; j < workers.size(); ++j) {
      ProbePair pair{workers[i].id, workers[j].id};
      if (!joined.contains(pair.lead) && !joined.contains(pair.echo)) continue;
      if (joined.contains(pair.lead)) std::swap(pair.lead, pair.echo);
      rounds.push_back({pair});
      const Kind a = KindOf(workers[i]), b = KindOf(workers[j]);
      if (kinds.insert(std::minmax(a, b)).second) of_kinds.push_back({pair});
    }
  }
  if (rounds.size() <= kMaxJoinPairs) return rounds;
  if (of_kinds.size() > kMaxJoinPairs) of_kinds.resize(kMaxJoinPairs);
  return of_kinds;
}

ProbeRounds RoundsWith(const std::set<WorkerId>& wanted, ProbeRounds rounds) {
  for (std::vector<ProbePair>& pairs : rounds) {
    std::erase_if(pairs, [&](const ProbePair& pair) {
      return !wanted.contains(pair.lead) && !wanted.contains(pair.echo);
    });
  }
  std::erase_if(rounds, [](const auto& pairs) { return pairs.empty(); });
  return rounds;
}

LinkSurvey::LinkSurvey(std::vector<WorkerProfile> workers, placement::PairTransport transport,
                       const Pace& pace, ProbeRounds rounds, TimePoint now, uint32_t first_round)
    : workers_(std::move(workers)),
      transport_(std::move(transport)),
      pace_(pace),
      began_(now),
      first_round_(first_round),
      next_first_round_(first_round + static_cast<uint32_t>(rounds.size())),
      rounds_(std::move(rounds)) {}

LinkSurvey::LinkSurvey(std::vector<WorkerProfile> workers, placement::PairTransport transport,
                       TimePoint now, uint32_t first_round)
    : LinkSurvey(workers, std::move(transport), Pace{.most_per_round = kMostPerRound},
                 RoundsFor(workers), now, first_round) {}

LinkSurvey LinkSurvey::OfSome(std::vector<WorkerProfile> workers, const std::set<WorkerId>& wanted,
                              placement::PairTransport transport, TimePoint now,
                              uint32_t first_round) {
  ProbeRounds rounds = RoundsFor(workers);
  if (wanted.empty() || !StandForOthers(workers)) rounds = RoundsWith(wanted, std::move(rounds));
  return LinkSurvey(std::move(workers), std::move(transport), Pace{.most_per_round = kMostPerRound},
                    std::move(rounds), now, first_round);
}

LinkSurvey LinkSurvey::OfJoined(std::vector<WorkerProfile> workers,
                                const std::set<WorkerId>& joined,
                                placement::PairTransport transport, TimePoint now,
                                uint32_t first_round) {
  const Pace pace{
      .budget = kJoinBudget, .most_per_round = kMostPerJoinPair, .patience = kJoinPatience};
  ProbeRounds rounds = RoundsOfJoined(workers, joined);
  return LinkSurvey(std::move(workers), std::move(transport), pace, std::move(rounds), now,
                    first_round);
}

Duration LinkSurvey::RoundBudget() const {
  return std::min(pace_.budget / static_cast<int64_t>(rounds_.size()), pace_.most_per_round);
}

std::vector<std::pair<WorkerId, proto::ProbeLink>> LinkSurvey::TakeRequests(TimePoint now) {
  std::vector<std::pair<WorkerId, proto::ProbeLink>> requests;
  if (done() || std::exchange(asked_, true)) return requests;
  round_began_ = now;
  for (const ProbePair& pair : rounds_[round_]) {
    proto::ProbeLink request{.round = RoundNumber(),
                             .peer = pair.lead,
                             .transport = transport_(pair.lead, pair.echo),
                             .budget_us = Micros(RoundBudget()),
                             .patience_us = Micros(pace_.patience)};
    requests.push_back({pair.echo, request});
    request.peer = pair.echo;
    request.leads = true;
    requests.push_back({pair.lead, request});
    silent_.insert({pair.lead, pair.echo});
  }
  return requests;
}

Status LinkSurvey::OnReport(WorkerId from, const proto::LinkReport& report, TimePoint now) {
  if (done() || report.round != RoundNumber() || !silent_.contains(from)) {
    return NotFound(Str("report that nobody waits for:", Kv("worker", from)));
  }
  const auto& pairs = rounds_[round_];
  const auto pair = std::find_if(pairs.begin(), pairs.end(), [&](const ProbePair& other) {
    return other.lead == from || other.echo == from;
  });
  const bool leads = pair->lead == from;
  if (report.peer != (leads ? pair->echo : pair->lead)) {
    return NotFound(Str("report of another survey:", Kv("worker", from)));
  }
  if (!report.error.empty()) {
    return Unavailable(
        Str(NamesOf(*pair), ": worker ", from, " says: ", Printable(report.error, 300)));
  }
  if (leads && !(report.round_trip_s > 0 && report.bytes_per_s > 0)) {
    return DataLoss(Str("worker ", from,
                        " measured what cannot be:", Kv("round_trip_s", report.round_trip_s),
                        Kv("bytes_per_s", report.bytes_per_s)));
  }
  Measured& measured = measured_[{pair->lead, pair->echo}];
  (leads ? measured.lead_message_s : measured.echo_message_s) = report.message_s;
  if (leads) {
    measured.round_trip_s = report.round_trip_s;
    measured.bytes_per_s = report.bytes_per_s;
    measured.rate_is_bound = report.rate_is_bound;
    measured.echo_waits = report.rate_is_bound || report.echo_waits;
  }
  silent_.erase(from);
  if (leads && measured.echo_waits) silent_.erase(pair->echo);  // for frames, in vain
  if (!silent_.empty()) return OkStatus();
  EndRound();
  const bool is_late = pace_.patience == Duration(0) && now - began_ >= pace_.budget;
  if (is_late) rounds_.resize(round_);
  return OkStatus();
}

void LinkSurvey::EndRound() {
  ++round_;
  asked_ = false;
  silent_.clear();
}

void LinkSurvey::SkipRound() {
  CHECK(!done());
  for (const ProbePair& pair : rounds_[round_]) measured_.erase({pair.lead, pair.echo});
  EndRound();
}

Status LinkSurvey::CheckDeadline(TimePoint now) const {
  const bool serves = pace_.patience > Duration(0);
  if (done() || (serves && !asked_)) return OkStatus();
  if (!serves && now - began_ < pace_.budget + kSurveyGrace) return OkStatus();
  if (asked_ && now - round_began_ < pace_.patience + kSurveyGrace) return OkStatus();
  const Duration waited = serves ? pace_.patience + kSurveyGrace : pace_.budget + kSurveyGrace;
  for (const ProbePair& pair : rounds_[round_]) {
    if (!silent_.contains(pair.lead) && !silent_.contains(pair.echo)) continue;
    return DeadlineExceeded(
        Str(NamesOf(pair), ": nothing measured within ", Seconds(waited), " s"));
  }
  return OkStatus();
}

size_t LinkSurvey::n_pairs() const {
  size_t n = 0;
  for (const auto& pairs : rounds_) n += pairs.size();
  return n;
}

std::string LinkSurvey::NamesOf(const ProbePair& pair) const {
  const auto name = [&](WorkerId id) {
    return Str("worker ", id, " on ", Printable(ProfileOf(id).host));
  };
  return Str(name(pair.lead), " and ", name(pair.echo), " cannot talk over ",
             placement::LinkKindName(transport_(pair.lead, pair.echo)));
}

const WorkerProfile& LinkSurvey::ProfileOf(WorkerId worker) const {
  const auto found = std::find_if(workers_.begin(), workers_.end(),
                                  [&](const WorkerProfile& other) { return other.id == worker; });
  CHECK(found != workers_.end());
  return *found;
}

// A message costs its sender message_s and is there latency_s later, so a round trip is both of
// both ends; half of what the messages leave of it is the latency of either way. A send that was
// interrupted can seem to take longer than the trip: no message counts as more than a quarter of
// it.
LinkProfile LinkSurvey::LinkOf(const ProbePair& pair, bool from_lead) const {
  const Measured& measured = measured_.at({pair.lead, pair.echo});
  const double most_s = measured.round_trip_s / 4;
  const double lead_s = std::min(measured.lead_message_s, most_s);
  const double echo_s = measured.echo_waits ? lead_s : std::min(measured.echo_message_s, most_s);
  const double latency_s = (measured.round_trip_s - lead_s - echo_s) / 2;
  LinkProfile link{.from = from_lead ? pair.lead : pair.echo,
                   .to = from_lead ? pair.echo : pair.lead,
                   .transport = transport_(pair.lead, pair.echo),
                   .latency_s = Figure::Measured(latency_s),
                   .bytes_per_s = Figure::Measured(measured.bytes_per_s),
                   .message_s = Figure::Measured(from_lead ? lead_s : echo_s)};
  if (measured.echo_waits && !from_lead) link.message_s = Figure::Assumed(echo_s);
  if (measured.rate_is_bound) AssumeSlow(&link);
  return link;
}

// The numbers of the pair that was measured between the same hosts, with GPUs at the same ends, by
// the same transport.
std::optional<LinkProfile> LinkSurvey::StandIn(const WorkerProfile& from,
                                               const WorkerProfile& to) const {
  const Kind from_kind = KindOf(from), to_kind = KindOf(to);
  for (const auto& [ends, measured] : measured_) {
    const Kind lead = KindOf(ProfileOf(ends.first)), echo = KindOf(ProfileOf(ends.second));
    const bool same_way = lead == from_kind && echo == to_kind;
    if (!same_way && !(lead == to_kind && echo == from_kind)) continue;
    if (transport_(ends.first, ends.second) != transport_(from.id, to.id)) continue;
    LinkProfile link = LinkOf({ends.first, ends.second}, same_way);
    const std::string bound = link.note.empty() ? "" : Str(": ", link.note);
    link.note = Str("as measured from worker ", link.from, " to ", link.to,
                    ", between the same hosts", bound);
    link.from = from.id;
    link.to = to.id;
    for (Figure* figure : {&link.latency_s, &link.bytes_per_s, &link.message_s}) {
      figure->origin = placement::Origin::kAssumed;
    }
    return link;
  }
  return std::nullopt;  // its round was left out
}

std::vector<LinkProfile> LinkSurvey::Links() const {
  CHECK(done());
  std::vector<LinkProfile> links;
  for (const WorkerProfile& from : workers_) {
    for (const WorkerProfile& to : workers_) {
      if (from.id == to.id) continue;
      if (measured_.contains({from.id, to.id})) {
        links.push_back(LinkOf({from.id, to.id}, true));
      } else if (measured_.contains({to.id, from.id})) {
        links.push_back(LinkOf({to.id, from.id}, false));
      } else if (auto link = StandIn(from, to)) {
        links.push_back(*std::move(link));
      }
    }
  }
  return links;
}

}  // namespace thermocline::coordinator
