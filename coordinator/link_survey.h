// Who measures the link to whom, and what came of it: every pair of workers once, in rounds in
// which nobody is in two pairs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "placement/pair_transport.h"
#include "placement/profile.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

// Two workers; the first one leads.
struct ProbePair {
  WorkerId lead;
  WorkerId echo;
  friend bool operator==(const ProbePair&, const ProbePair&) = default;
};
using ProbeRounds = std::vector<std::vector<ProbePair>>;

// All samples of a survey together take no longer than this, for any number of workers. Where links
// are so slow that a round takes longer than its share, the last rounds are left out.
inline constexpr Duration kSurveyBudget = std::chrono::seconds(2);
// Beyond so many rounds each pair would have less than a tenth of a second: one pair of workers
// stands for all alike then, between the same two hosts and with GPUs at the same ends.
inline constexpr size_t kMaxSurveyRounds = 20;

// When somebody joins a service, streams wait for the samples: for those of all pairs together, of
// one pair, and so many pairs. The others have their hosts' pair stand for them, or are assumed.
inline constexpr Duration kJoinBudget = std::chrono::milliseconds(200);
inline constexpr Duration kMostPerJoinPair = std::chrono::milliseconds(50);
inline constexpr size_t kMaxJoinPairs = 10;

// Every pair once. A tournament by the circle method: n - 1 rounds for an even number, else n.
ProbeRounds RoundsOfAll(const std::vector<WorkerId>& workers);
// The workers of a host on CPUs are one kind, those on GPUs, whose copies are in the numbers of a
// link, another: a pair for each two kinds, and one within each kind that has two workers.
ProbeRounds RoundsOfHosts(const std::vector<placement::WorkerProfile>& workers);
// Each of `joined` with all others, a pair at a time; those lead who have been here before. Beyond
// kMaxJoinPairs the first pair of two such kinds is left, and so many of these.
ProbeRounds RoundsOfJoined(const std::vector<placement::WorkerProfile>& workers,
                           const std::set<WorkerId>& joined);
// What is left of rounds where only links to and from `wanted` are asked for.
ProbeRounds RoundsWith(const std::set<WorkerId>& wanted, ProbeRounds rounds);

// The state of one survey, which measures each pair by the transport that it will use. No I/O, no
// clock, no thread. Engine thread only.
class LinkSurvey {
 public:
  // Every pair. The numbers of its rounds begin with `first_round`: none may be that of a round
  // before, of this survey or another, whose frames may still be on the links.
  LinkSurvey(std::vector<placement::WorkerProfile> workers, placement::PairTransport transport,
             TimePoint now, uint32_t first_round = 0);
  // The pairs with one of `wanted`; where one pair stands for all alike, all of those.
  static LinkSurvey OfSome(std::vector<placement::WorkerProfile> workers,
                           const std::set<WorkerId>& wanted, placement::PairTransport transport,
                           TimePoint now, uint32_t first_round = 0);
  // Of those who joined while the others serve: each round waits for steps that are under way.
  static LinkSurvey OfJoined(std::vector<placement::WorkerProfile> workers,
                             const std::set<WorkerId>& joined, placement::PairTransport transport,
                             TimePoint now, uint32_t first_round = 0);

  // What to tell whom for the round that has begun, once per round; addresses are left to fill in.
  std::vector<std::pair<WorkerId, proto::ProbeLink>> TakeRequests(TimePoint now);
  // kNotFound: nobody waits for that report; kUnavailable names both ends of a pair that cannot
  // talk; kDataLoss: the numbers are none.
  Status OnReport(WorkerId from, const proto::LinkReport& report, TimePoint now);
  // kDeadlineExceeded names both ends of a pair that says nothing.
  Status CheckDeadline(TimePoint now) const;
  // Goes on without what the round under way would have measured.
  void SkipRound();

  size_t n_pairs() const;
  bool done() const { return round_ == rounds_.size(); }
  // For the next survey.
  uint32_t next_first_round() const { return next_first_round_; }
  // Both directions of every pair of workers that was measured or has another pair stand for it,
  // whose numbers are then assumed, with a note. So is a rate of which only a bound is known.
  std::vector<placement::LinkProfile> Links() const;

 private:
  // What a survey may take.
  struct Pace {
    Duration budget = kSurveyBudget;
    Duration most_per_round;
    Duration patience{0};  // of each round, with steps under way; 0: nobody serves
  };
  LinkSurvey(std::vector<placement::WorkerProfile> workers, placement::PairTransport transport,
             const Pace& pace, ProbeRounds rounds, TimePoint now, uint32_t first_round);

  // Figures of a measured pair, from both ends.
  struct Measured {
    double round_trip_s = 0;
    double bytes_per_s = 0;
    double lead_message_s = 0;
    double echo_message_s = 0;
    bool rate_is_bound = false;
    bool echo_waits = false;  // it has told nothing then
  };
  std::string NamesOf(const ProbePair& pair) const;
  const placement::WorkerProfile& ProfileOf(WorkerId worker) const;
  placement::LinkProfile LinkOf(const ProbePair& pair, bool from_lead) const;
  std::optional<placement::LinkProfile> StandIn(const placement::WorkerProfile& from,
                                                const placement::WorkerProfile& to) const;
  Duration RoundBudget() const;
  uint32_t RoundNumber() const { return first_round_ + static_cast<uint32_t>(round_); }
  void EndRound();

  const std::vector<placement::WorkerProfile> workers_;
  const placement::PairTransport transport_;
  const Pace pace_;
  const TimePoint began_;
  const uint32_t first_round_, next_first_round_;
  ProbeRounds rounds_;
  size_t round_ = 0;
  TimePoint round_began_;
  bool asked_ = false;         // the requests of the round were taken
  std::set<WorkerId> silent_;  // whose report of the round is awaited
  std::map<std::pair<WorkerId, WorkerId>, Measured> measured_;  // by lead and echo
};

}  // namespace thermocline::coordinator
