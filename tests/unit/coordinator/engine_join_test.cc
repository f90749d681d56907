// Links of workers that join while the cluster serves: measured a pair at a time, or assumed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <fstream>
#include <span>
#include <sstream>

#include "tests/support/temp_file.h"
#include "tests/unit/coordinator/engine_change_fixture.h"

namespace thermocline::coordinator {
namespace {

using placement::Origin;
using ::testing::HasSubstr;

// With the worker that joins.
constexpr char kThirdAndSecond[] =
    R"({"stages":[{"lead":3,"layers":[0,2]},{"lead":2,"layers":[2,4]}]})";

class EngineJoinTest : public EngineChangeTest {
 protected:
  EngineJoinTest() { options_.replan = ReplanMode::kNow; }
  void StopProbes(bool answers) {
    const MutexLock lock(mutex_);
    probes_links_ = answers;
    probes_.clear();
  }
  size_t n_probes() {
    const MutexLock lock(mutex_);
    return probes_.size();
  }
  std::pair<comm::PeerId, proto::ProbeLink> ProbeAt(size_t i) {
    const MutexLock lock(mutex_);
    return probes_.at(i);
  }
  // As that end would.
  void Answer(size_t i, const std::string& error = "") {
    const auto [worker, probe] = ProbeAt(i);
    proto::LinkReport report{
        .round = probe.round, .peer = probe.peer, .error = error, .message_s = 2e-6};
    if (probe.leads) report.round_trip_s = 3e-4;
    if (probe.leads) report.bytes_per_s = 2e9;
    mailbox_.Post(worker, report);
  }
  void JoinThird() {
    mailbox_.Post({77}, Stranger("node9"));
    ASSERT_TRUE(Eventually([&] { return IsWorker(3); }));
  }
  bool IsSpare(uint64_t id) const {
    for (const WorkerStatus& worker : engine_->status().workers) {
      if (worker.id == WorkerId{id}) return worker.stage < 0;
    }
    return false;
  }
  Origin OriginOf(uint64_t from, uint64_t to) const {
    const PlanOutcome outcome = observer_.outcome();
    const placement::LinkProfile* const link = outcome.cluster.FindLink({from}, {to});
    return link == nullptr ? Origin::kUnknown : link->bytes_per_s.origin;
  }
};

TEST_F(EngineJoinTest, APairAtATimeAndThenThePlan) {
  const testing::TempFile saved{std::span<const std::byte>()};
  options_.save_cluster_path = saved.path();
  Serve();
  StopProbes(false);
  const auto sink = Submit(Request(5, 50));
  JoinThird();
  // Worker 1 leads when its steps let it; the one that has joined waits for that.
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  const auto [echo, waits] = ProbeAt(0);
  const auto [lead, leads] = ProbeAt(1);
  EXPECT_EQ(echo, comm::PeerId{77});
  EXPECT_EQ(lead, PeerOf(1));
  EXPECT_TRUE(leads.leads && !waits.leads);
  EXPECT_GT(leads.patience_us, 0u);
  EXPECT_LE(leads.budget_us, 50'000u);
  EXPECT_EQ(leads.address, "tcp://node9:1");
  Answer(0);
  Answer(1);
  ASSERT_TRUE(Eventually([&] { return n_probes() == 4; })) << "the second pair after the first";
  EXPECT_EQ(ProbeAt(3).first, PeerOf(2));
  EXPECT_EQ(engine_->status().epoch, 1u) << "no plan before the links are known";
  Answer(2);
  Answer(3);
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("links of worker 3 on node9 measured"); }));
  ASSERT_TRUE(engine_->Replan(kThirdAndSecond).ok());
  ASSERT_TRUE(Reaches(2));
  for (const uint64_t other : {1, 2}) {
    EXPECT_EQ(OriginOf(3, other), Origin::kMeasured);
    EXPECT_EQ(OriginOf(other, 3), Origin::kMeasured);
  }
  EXPECT_NEAR(observer_.outcome().cluster.FindLink({3}, {1})->bytes_per_s.value, 2e9, 1);
  std::ostringstream text;
  text << std::ifstream(saved.path()).rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("{from: 1, to: 3, transport: zmq, latency_us: 148 measured, "
                                    "gb_per_s: 2 measured, message_us: 2 measured}"));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 50)));
}

TEST_F(EngineJoinTest, APairThatCannotTalkIsAssumedAndToldAndTheOthersAreMeasured) {
  Serve();
  StopProbes(false);
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  Answer(0);
  Answer(1, "no answer in time");
  ASSERT_TRUE(Eventually([&] { return n_probes() == 4; }));
  Answer(2);
  Answer(3);
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("measured between steps: 2 directions"); }));
  EXPECT_TRUE(
      observer_.Heard("is assumed: worker 1 on node1 and worker 3 on node9 cannot talk "
                      "over zmq: worker 1 says: no answer in time"));
  ASSERT_TRUE(engine_->Replan(kThirdAndSecond).ok());
  ASSERT_TRUE(Reaches(2));
  EXPECT_EQ(OriginOf(1, 3), Origin::kAssumed);
  EXPECT_EQ(OriginOf(2, 3), Origin::kMeasured);
  EXPECT_EQ(OriginOf(1, 2), Origin::kMeasured);
}

// Its other end has nothing to say, and is not waited for.
TEST_F(EngineJoinTest, ALinkThatIsTooSlowToMeasureIsNotTakenForAGoodOne) {
  Serve();
  StopProbes(false);
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  const auto [lead, probe] = ProbeAt(1);
  mailbox_.Post(lead, proto::LinkReport{.round = probe.round,
                                        .peer = probe.peer,
                                        .round_trip_s = 3e-4,
                                        .bytes_per_s = 4e6,
                                        .message_s = 2e-6,
                                        .rate_is_bound = true});
  ASSERT_TRUE(Eventually([&] { return n_probes() == 4; }));
  EXPECT_GT(ProbeAt(3).second.round, probe.round);
  Answer(2);
  Answer(3);
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("measured between steps: 4 directions"); }));
  EXPECT_TRUE(
      observer_.Heard("link of worker 1 on node1 and worker 3 on node9: slower than 4 MB/s: a "
                      "large frame did not come back in time"));
  ASSERT_TRUE(engine_->Replan(kThirdAndSecond).ok());
  ASSERT_TRUE(Reaches(2));
  EXPECT_EQ(OriginOf(1, 3), Origin::kAssumed);
  EXPECT_EQ(observer_.outcome().cluster.FindLink({1}, {3})->bytes_per_s.value, 4e6);
  EXPECT_EQ(OriginOf(2, 3), Origin::kMeasured);
}

// All neurons' rates are gone through at the interval, however long a worker that has joined waits
// for its plan.
TEST_F(EngineJoinTest, WhoHasJoinedCostsNoLooksAtTheHeat) {
  options_.replan = ReplanMode::kAuto;
  options_.replan_interval = seconds(5);
  const auto n_beats = std::make_shared<std::atomic<int>>(0);
  {
    const MutexLock lock(mutex_);
    on_heartbeat_ = [n_beats] { ++*n_beats; };
  }
  const auto tick = [&](int n_ticks) {  // of three workers
    const int wanted = *n_beats + 3 * (n_ticks + 1);
    return InTime([&] { return *n_beats >= wanted; });
  };
  Serve();
  StopProbes(false);
  ASSERT_TRUE(tick(1));
  const TimePoint looked_at = clock_.Now();
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  proto::FiringCounts counts{.epoch = {1}, .layer = 0, .n_tokens = 1000};
  counts.counts.assign(static_cast<size_t>(model_.config.n_ff), 0);
  mailbox_.Post(PeerOf(1), counts);
  mailbox_.Post(PeerOf(1), proto::LinkReport{.round = 99, .peer = {2}});  // counted behind them
  ASSERT_TRUE(Eventually([&] { return engine_->status().stale_frames > 0; }));
  ASSERT_TRUE(tick(2));
  ASSERT_LT((clock_.Now() - looked_at).count(), Duration(seconds(4)).count());
  EXPECT_EQ(engine_->status().plan.tokens_looked_at, 0u);
  ASSERT_TRUE(InTime([&] { return engine_->status().plan.tokens_looked_at == 1000; }));
  EXPECT_EQ(n_probes(), 2u) << "still busy";
}

TEST_F(EngineJoinTest, ASilentPairIsAssumedInTimeAndThePlanComes) {
  Serve();
  StopProbes(false);
  JoinThird();
  ASSERT_TRUE(InTime([&] { return n_probes() == 4; }));
  EXPECT_TRUE(
      observer_.Heard("worker 1 on node1 and worker 3 on node9 cannot talk over zmq: "
                      "nothing measured within 6 s"));
  // Who asks for a plan meanwhile gets it then.
  ASSERT_TRUE(engine_->Replan("").ok());
  ASSERT_TRUE(InTime(
      [&] { return observer_.Heard("worker 2 on node2 and worker 3 on node9 cannot talk"); }));
  ASSERT_TRUE(InTime(
      [&] { return observer_.Heard("another plan (asked for)") || engine_->status().epoch == 2; }));
  Answer(0);  // too late: nobody waits for it
  EXPECT_TRUE(Eventually([&] { return engine_->status().stale_frames > 0; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineJoinTest, WhoJoinsWhileOthersAreMeasuredIsMeasuredNext) {
  Serve();
  StopProbes(false);
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  mailbox_.Post({78}, Stranger("node8"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(4); }));
  for (size_t n = 2; n <= 10; n += 2) {  // two pairs, then three
    ASSERT_TRUE(InTime([&] { return n_probes() == n; })) << n;
    Answer(n - 2);
    Answer(n - 1);
  }
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("links of worker 4 on node8 measured"); }));
  ASSERT_TRUE(
      engine_->Replan(R"({"stages":[{"lead":3,"layers":[0,2]},{"lead":4,"layers":[2,4]}]})").ok());
  ASSERT_TRUE(Reaches(2));
  for (const uint64_t other : {1, 2, 3}) EXPECT_EQ(OriginOf(4, other), Origin::kMeasured);
}

TEST_F(EngineJoinTest, ALossMeanwhileComesFirst) {
  Serve();
  StopProbes(false);
  const auto sink = Submit(Request(5, 50));
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Reaches(2));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 50)));
  // Over the next plan it begins again, if that can do without the one who joined.
  clock_.Advance(std::chrono::seconds(1));
  if (IsSpare(3)) {
    ASSERT_TRUE(InTime([&] { return n_probes() == 4; }));
  } else {
    EXPECT_EQ(n_probes(), 2u);
  }
}

// Frames to it are activations from then on, which a probe would take for its own.
TEST_F(EngineJoinTest, WhoIsInThePlanIsMeasuredNoMore) {
  Serve();
  StopProbes(false);
  const auto sink = Submit(Request(5, 50));
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  ASSERT_TRUE(engine_->Replan(kThirdAndSecond).ok());
  ASSERT_TRUE(Reaches(2));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 50)));
  EXPECT_FALSE(IsSpare(3));
  clock_.Advance(std::chrono::seconds(1));
  const auto next = Submit(Request(7, 5));
  ASSERT_TRUE(Eventually([&] { return next->finish().has_value(); }));
  EXPECT_EQ(n_probes(), 2u);
}

TEST_F(EngineJoinTest, WhoHasComeAndGoneIsNotWaitedForLong) {
  Serve();
  StopProbes(false);
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return n_probes() == 2; }));
  mailbox_.Post({77}, proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Eventually([&] { return !IsWorker(3); }));
  ASSERT_TRUE(engine_->Replan("").ok());
  ASSERT_TRUE(InTime([&] { return !engine_->status().plan.is_changing; }));
  EXPECT_EQ(n_probes(), 2u);
}

}  // namespace
}  // namespace thermocline::coordinator
