#include "coordinator/link_survey.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/str.h"

namespace thermocline::coordinator {
namespace {

using placement::LinkProfile;
using placement::Origin;
using placement::WorkerProfile;
using ::testing::HasSubstr;

std::vector<WorkerProfile> Workers(int n, int per_host = 1) {
  std::vector<WorkerProfile> workers;
  for (int i = 0; i < n; ++i) {
    workers.push_back({.id = {static_cast<uint64_t>(i + 1)}, .host = Str("node", i / per_host)});
  }
  return workers;
}

std::vector<WorkerId> Ids(int n) {
  std::vector<WorkerId> ids;
  for (int i = 1; i <= n; ++i) ids.push_back({static_cast<uint64_t>(i)});
  return ids;
}

// Nobody twice in a round; how often each pair comes, the smaller id first.
std::map<std::pair<WorkerId, WorkerId>, int> CountPairs(const ProbeRounds& rounds) {
  std::map<std::pair<WorkerId, WorkerId>, int> counts;
  for (const auto& pairs : rounds) {
    std::set<WorkerId> busy;
    for (const ProbePair& pair : pairs) {
      EXPECT_TRUE(busy.insert(pair.lead).second && busy.insert(pair.echo).second);
      ++counts[std::minmax(pair.lead, pair.echo)];
    }
  }
  return counts;
}

TEST(SurveyRounds, EveryPairMeetsOnceAndNobodyIsInTwo) {
  for (int n = 0; n <= 21; ++n) {
    const ProbeRounds rounds = RoundsOfAll(Ids(n));
    const auto counts = CountPairs(rounds);
    EXPECT_EQ(counts.size(), static_cast<size_t>(n * (n - 1) / 2)) << n;
    for (const auto& [pair, count] : counts) EXPECT_EQ(count, 1) << n;
    EXPECT_LE(rounds.size(), static_cast<size_t>(n)) << n;
  }
}

TEST(SurveyRounds, OnePairStandsForTwoHosts) {
  const auto counts = CountPairs(RoundsOfHosts(Workers(9, 3)));
  EXPECT_EQ(counts.size(), 6u);  // three between hosts, one within each
  EXPECT_TRUE(counts.contains({{1}, {4}}));
  EXPECT_TRUE(counts.contains({{1}, {2}}));
}

// The first worker of each host is on a GPU.
std::vector<WorkerProfile> WithGpus(std::vector<WorkerProfile> workers, size_t per_host) {
  for (size_t i = 0; i < workers.size(); i += per_host) {
    workers[i].gpus.resize(1);
    workers[i].gpu = 0;
  }
  return workers;
}

TEST(SurveyRounds, WorkersOnGpusStandForThemselves) {
  const auto workers = WithGpus(Workers(9, 3), 3);
  const auto counts = CountPairs(RoundsOfHosts(workers));
  EXPECT_EQ(counts.size(), 15u + 3u);  // of six kinds, and of CPUs within each host
  EXPECT_TRUE(counts.contains({{1}, {4}})) << "two GPUs";
  EXPECT_TRUE(counts.contains({{1}, {2}})) << "a GPU and its CPU";
  EXPECT_TRUE(counts.contains({{2}, {3}})) << "two CPUs of a host";
  EXPECT_TRUE(counts.contains({{2}, {4}})) << "a CPU and another's GPU";
  EXPECT_EQ(RoundsOfJoined(WithGpus(Workers(12, 6), 6), {{12}}).size(), 4u);
}

TEST(SurveyRounds, WhoHasJoinedMeetsAllOthersOnePairAtATime) {
  const ProbeRounds rounds = RoundsOfJoined(Workers(4), {{3}, {4}});
  EXPECT_EQ(CountPairs(rounds).size(), 5u);
  for (const auto& pairs : rounds) {
    ASSERT_EQ(pairs.size(), 1u);
    EXPECT_GT(pairs[0].echo, WorkerId{2}) << "who was here leads";
  }
  // One pair for each two hosts, where all would be many; of many hosts, some.
  EXPECT_EQ(RoundsOfJoined(Workers(12, 4), {{12}}).size(), 3u);
  EXPECT_EQ(RoundsOfJoined(Workers(40), {{40}}).size(), kMaxJoinPairs);
}

class LinkSurveyTest : public ::testing::Test {
 protected:
  static constexpr TimePoint kBegan{std::chrono::seconds(100)};
  LinkSurvey Survey(std::vector<WorkerProfile> workers) const {
    return LinkSurvey(std::move(workers), placement::LinkKind::kZmq, kBegan);
  }
  // The report of one end: 100 us there and back, 10 of them the lead's message, 20 the echo's.
  static proto::LinkReport Answer(const proto::ProbeLink& request) {
    proto::LinkReport report{.round = request.round, .peer = request.peer};
    report.message_s = request.leads ? 10e-6 : 20e-6;
    if (request.leads) report.round_trip_s = 100e-6;
    if (request.leads) report.bytes_per_s = 1e9;
    return report;
  }
  // All budgets together.
  static double RunAll(LinkSurvey* survey) {
    double total_s = 0;
    while (!survey->done()) {
      const auto requests = survey->TakeRequests({});
      EXPECT_FALSE(requests.empty());
      EXPECT_TRUE(survey->TakeRequests({}).empty()) << "a round is asked for once";
      total_s += 1e-6 * requests.front().second.budget_us;
      for (const auto& [worker, request] : requests) {
        const Status status = survey->OnReport(worker, Answer(request), {});
        EXPECT_TRUE(status.ok()) << status;
      }
    }
    return total_s;
  }
};

TEST_F(LinkSurveyTest, ALatencyIsWhatTheMessagesLeaveOfHalfARoundTrip) {
  LinkSurvey survey = Survey(Workers(2));
  RunAll(&survey);
  const std::vector<LinkProfile> links = survey.Links();
  ASSERT_EQ(links.size(), 2u);
  for (const LinkProfile& link : links) {
    EXPECT_NEAR(link.latency_s.value, 35e-6, 1e-12);
    EXPECT_EQ(link.bytes_per_s, placement::Figure::Measured(1e9));
    EXPECT_EQ(link.latency_s.origin, Origin::kMeasured);
    EXPECT_EQ(link.note, "");
  }
  EXPECT_EQ(links[0].from, WorkerId{1});
  EXPECT_NEAR(links[0].message_s.value, 10e-6, 1e-12);
  EXPECT_EQ(links[1].from, WorkerId{2});
  EXPECT_NEAR(links[1].message_s.value, 20e-6, 1e-12);
}

TEST_F(LinkSurveyTest, IsBoundedForAnyNumberOfWorkers) {
  for (const int n : {0, 1, 2, 3, 8, 20, 21, 64, 200}) {
    LinkSurvey survey = Survey(Workers(n));
    EXPECT_LE(RunAll(&survey), Seconds(kSurveyBudget)) << n;
    EXPECT_EQ(survey.Links().size(), static_cast<size_t>(n * (n - 1))) << n;
  }
}

TEST_F(LinkSurveyTest, PairsThatWereNotMeasuredTakeTheNumbersOfTheirHosts) {
  LinkSurvey survey = Survey(Workers(40, 10));
  RunAll(&survey);
  EXPECT_EQ(survey.n_pairs(), 6u + 4u);
  int n_measured = 0;
  for (const LinkProfile& link : survey.Links()) {
    EXPECT_NEAR(link.latency_s.value, 35e-6, 1e-12);
    const bool measured = link.latency_s.origin == Origin::kMeasured;
    n_measured += measured ? 1 : 0;
    EXPECT_EQ(link.note.empty(), measured);
    if (measured) continue;
    EXPECT_EQ(link.latency_s.origin, Origin::kAssumed);
    EXPECT_THAT(link.note, HasSubstr("between the same hosts"));
  }
  EXPECT_EQ(n_measured, 20);
}

// A hop with a GPU at an end takes longer by its copy, whether it was measured or is assumed.
TEST_F(LinkSurveyTest, NumbersOfAPairStandForPairsWithGpusAtTheSameEnds) {
  const auto workers = WithGpus(Workers(40, 10), 10);
  const auto is_gpu = [](WorkerId id) { return id.value % 10 == 1; };
  const auto trip_s = [&](WorkerId a, WorkerId b) {
    return 100e-6 * (1 + (is_gpu(a) ? 1 : 0) + (is_gpu(b) ? 1 : 0));
  };
  LinkSurvey survey = Survey(workers);
  while (!survey.done()) {
    for (const auto& [worker, request] : survey.TakeRequests({})) {
      proto::LinkReport report = Answer(request);
      if (request.leads) report.round_trip_s = trip_s(worker, request.peer);
      ASSERT_TRUE(survey.OnReport(worker, report, {}).ok());
    }
  }
  const std::vector<LinkProfile> links = survey.Links();
  EXPECT_EQ(links.size(), 40u * 39);
  for (const LinkProfile& link : links) {
    EXPECT_NEAR(link.latency_s.value, trip_s(link.from, link.to) / 2 - 15e-6, 1e-12)
        << link.from << " " << link.to;
  }
}

TEST_F(LinkSurveyTest, APairThatCannotTalkIsNamedByBothEnds) {
  LinkSurvey survey = Survey(Workers(2));
  const auto requests = survey.TakeRequests({});
  proto::LinkReport report = Answer(requests[0].second);
  report.error = "cannot reach worker 2: refused";
  const Status status = survey.OnReport(requests[0].first, report, {});
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(status.message(),
            "worker 1 on node0 and worker 2 on node1 cannot talk over zmq: worker 2 says: cannot "
            "reach worker 2: refused");
}

TEST_F(LinkSurveyTest, APairThatSaysNothingIsNamedInTime) {
  LinkSurvey survey = Survey(Workers(2));
  const auto requests = survey.TakeRequests({});
  ASSERT_TRUE(survey.OnReport(requests[0].first, Answer(requests[0].second), {}).ok());
  EXPECT_TRUE(survey.CheckDeadline(kBegan + kSurveyBudget).ok());
  const Status late = survey.CheckDeadline(kBegan + kSurveyBudget + std::chrono::seconds(1));
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(late.message(), HasSubstr("worker 1 on node0 and worker 2 on node1 cannot talk over "
                                        "zmq: nothing measured within 3 s"));
}

// Rounds of half a second each: what does not fit into the budget is left to presets.
TEST_F(LinkSurveyTest, SlowLinksLeaveTheLastRoundsOut) {
  LinkSurvey survey = Survey(Workers(8));
  TimePoint now = kBegan;
  int n_rounds = 0;
  for (; !survey.done(); ++n_rounds) {
    const auto requests = survey.TakeRequests(now);
    now = now + std::chrono::milliseconds(500);
    EXPECT_TRUE(survey.CheckDeadline(now).ok());
    for (const auto& [worker, request] : requests) {
      ASSERT_TRUE(survey.OnReport(worker, Answer(request), now).ok());
    }
  }
  EXPECT_EQ(n_rounds, 4);
  EXPECT_EQ(survey.Links().size(), 4u * 4 * 2);
}

TEST_F(LinkSurveyTest, ReportsThatNobodyWaitsForAndNumbersThatAreNone) {
  LinkSurvey survey = Survey(Workers(3));
  const auto requests = survey.TakeRequests({});
  proto::LinkReport stale = Answer(requests[0].second);
  stale.round = 7;
  EXPECT_EQ(survey.OnReport(requests[0].first, stale, {}).code(), StatusCode::kNotFound);
  EXPECT_EQ(survey.OnReport({99}, Answer(requests[0].second), {}).code(), StatusCode::kNotFound);
  for (const auto& [worker, request] : requests) {
    if (!request.leads) continue;
    proto::LinkReport none = Answer(request);
    none.bytes_per_s = 0;
    EXPECT_EQ(survey.OnReport(worker, none, {}).code(), StatusCode::kDataLoss);
  }
}

TEST_F(LinkSurveyTest, StreamsWaitAFifthOfASecondForAllPairsOfThoseWhoJoined) {
  for (const int n : {2, 3, 5, 8, 11, 12, 40}) {
    LinkSurvey survey = LinkSurvey::OfJoined(Workers(n), {{static_cast<uint64_t>(n)}},
                                             placement::LinkKind::kZmq, kBegan);
    EXPECT_LE(RunAll(&survey), Seconds(kJoinBudget)) << n;
  }
}

TEST_F(LinkSurveyTest, ARoundThatIsSkippedLeavesNothing) {
  LinkSurvey survey = LinkSurvey::OfJoined(Workers(3), {{3}}, placement::LinkKind::kZmq, kBegan);
  const auto requests = survey.TakeRequests(kBegan);
  ASSERT_TRUE(survey.OnReport(requests[0].first, Answer(requests[0].second), kBegan).ok());
  EXPECT_TRUE(survey.CheckDeadline(kBegan + std::chrono::milliseconds(5900)).ok());
  EXPECT_EQ(survey.CheckDeadline(kBegan + std::chrono::seconds(6)).code(),
            StatusCode::kDeadlineExceeded);
  survey.SkipRound();
  EXPECT_TRUE(survey.CheckDeadline(kBegan + std::chrono::seconds(60)).ok()) << "not asked yet";
  RunAll(&survey);
  const std::vector<LinkProfile> links = survey.Links();
  ASSERT_EQ(links.size(), 2u);
  for (const LinkProfile& link : links) {
    EXPECT_EQ(std::minmax(link.from, link.to), std::minmax(WorkerId{2}, WorkerId{3}));
  }
}

// A frame that a probe has left on a link must not pass for one of a later probe.
TEST_F(LinkSurveyTest, NoTwoRoundsHaveOneNumber) {
  std::set<uint32_t> numbers;
  size_t n_rounds = 0;
  uint32_t first = 0;
  const auto run = [&](LinkSurvey survey) {
    EXPECT_GE(survey.next_first_round(), first);
    first = survey.next_first_round();
    for (; !survey.done(); ++n_rounds) {
      for (const auto& [worker, request] : survey.TakeRequests(kBegan)) {
        numbers.insert(request.round);
      }
      survey.SkipRound();
    }
  };
  run(LinkSurvey(Workers(5), placement::LinkKind::kZmq, kBegan, first));
  run(LinkSurvey::OfJoined(Workers(3), {{3}}, placement::LinkKind::kZmq, kBegan, first));
  run(LinkSurvey::OfSome(Workers(4), {{2}}, placement::LinkKind::kZmq, kBegan, first));
  run(LinkSurvey::OfJoined(Workers(3), {{3}}, placement::LinkKind::kZmq, kBegan, first));
  EXPECT_EQ(numbers.size(), n_rounds);
  EXPECT_EQ(n_rounds, 5u + 2 + 3 + 2);
}

TEST_F(LinkSurveyTest, OnlyLinksThatAreWantedAreMeasured) {
  for (const int n : {2, 4, 7, 20}) {
    LinkSurvey survey =
        LinkSurvey::OfSome(Workers(n), {{1}, {2}}, placement::LinkKind::kZmq, kBegan);
    EXPECT_LE(RunAll(&survey), Seconds(kSurveyBudget)) << n;
    const std::vector<LinkProfile> links = survey.Links();
    EXPECT_EQ(links.size(), size_t(2 * (2 * n - 3))) << n;
    for (const LinkProfile& link : links) EXPECT_LE(std::min(link.from, link.to), WorkerId{2});
  }
  for (const int n : {2, 40}) {
    EXPECT_TRUE(LinkSurvey::OfSome(Workers(n), {}, placement::LinkKind::kZmq, kBegan).done());
  }
  // One pair stands for all of two hosts, so all of these are measured.
  EXPECT_EQ(LinkSurvey::OfSome(Workers(40, 10), {{3}}, placement::LinkKind::kZmq, kBegan).n_pairs(),
            6u + 4u);
}

// Its other end waits in vain for more frames, and has nothing to report for seconds.
TEST_F(LinkSurveyTest, ALinkThatIsTooSlowIsAssumedToBeNoFasterThanWhatItDidNotReach) {
  for (const double bound : {4e6, 1e12}) {
    LinkSurvey survey = LinkSurvey::OfJoined(Workers(3), {{3}}, placement::LinkKind::kZmq, kBegan);
    for (const auto& [worker, request] : survey.TakeRequests(kBegan)) {
      if (!request.leads) continue;
      proto::LinkReport report = Answer(request);
      report.bytes_per_s = bound;
      report.rate_is_bound = true;
      ASSERT_TRUE(survey.OnReport(worker, report, kBegan).ok());
    }
    RunAll(&survey);
    for (const LinkProfile& link : survey.Links()) {
      const bool is_slow = std::min(link.from, link.to) == WorkerId{1};
      EXPECT_EQ(link.latency_s.origin, Origin::kMeasured);
      EXPECT_EQ(link.bytes_per_s.origin, is_slow ? Origin::kAssumed : Origin::kMeasured);
      EXPECT_EQ(link.message_s.origin,
                is_slow && link.from == WorkerId{3} ? Origin::kAssumed : Origin::kMeasured);
      if (!is_slow) continue;
      EXPECT_NEAR(link.latency_s.value, 40e-6, 1e-12) << "as if both ends were alike";
      EXPECT_EQ(link.bytes_per_s.value, std::min(bound, 1.15e9)) << "no better than others";
      EXPECT_THAT(link.note, HasSubstr(bound < 1e9 ? "slower than 4 MB/s" : "no time"));
    }
  }
}

// The last frame was late: all is known but what a message costs the other end.
TEST_F(LinkSurveyTest, AnEndThatWaitsInVainIsNotWaitedFor) {
  LinkSurvey survey = LinkSurvey::OfJoined(Workers(2), {{2}}, placement::LinkKind::kZmq, kBegan);
  for (const auto& [worker, request] : survey.TakeRequests(kBegan)) {
    if (!request.leads) continue;
    proto::LinkReport report = Answer(request);
    report.echo_waits = true;
    ASSERT_TRUE(survey.OnReport(worker, report, kBegan).ok());
  }
  ASSERT_TRUE(survey.done());
  for (const LinkProfile& link : survey.Links()) {
    EXPECT_EQ(link.bytes_per_s.origin, Origin::kMeasured);
    EXPECT_EQ(link.message_s.origin,
              link.from == WorkerId{2} ? Origin::kAssumed : Origin::kMeasured);
    EXPECT_EQ(link.note, "");
  }
}

TEST_F(LinkSurveyTest, EachPairIsMeasuredByTheTransportThatItWillUse) {
  // 40 workers on 4 hosts; those with odd ids have MPI.
  const placement::PairTransport odd([](WorkerId a, WorkerId b) {
    const bool mpi = a.value % 2 == 1 && b.value % 2 == 1;
    return mpi ? placement::LinkKind::kMpi : placement::LinkKind::kZmq;
  });
  for (const int per_host : {1, 10}) {
    LinkSurvey survey(Workers(per_host == 1 ? 4 : 40, per_host), odd, kBegan);
    for (const auto& [worker, request] : survey.TakeRequests({})) {
      EXPECT_EQ(request.transport, odd(worker, request.peer));
      ASSERT_TRUE(survey.OnReport(worker, Answer(request), {}).ok());
    }
    RunAll(&survey);
    for (const LinkProfile& link : survey.Links()) {
      EXPECT_EQ(link.transport, odd(link.from, link.to)) << link.from << " " << link.to;
    }
  }
}

TEST_F(LinkSurveyTest, WhoCannotTalkIsToldWithTheTransportOfThePair) {
  const placement::PairTransport mpi([](WorkerId, WorkerId) { return placement::LinkKind::kMpi; });
  LinkSurvey survey(Workers(2), mpi, kBegan);
  ASSERT_EQ(survey.TakeRequests({}).size(), 2u);
  EXPECT_THAT(survey.OnReport({1}, {.peer = {2}, .error = "no"}, {}).message(),
              HasSubstr("cannot talk over mpi"));
}

}  // namespace
}  // namespace thermocline::coordinator
