#include "worker/link_prober.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <future>

#include "base/rng.h"
#include "comm/data_ports.h"
#include "tests/support/patience.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// Two ports of one process, each probed from a thread of its own.
class LinkProberTest : public ::testing::Test {
 protected:
  LinkProberTest() : ports_{hub_.MakePort({1}), hub_.MakePort({2})} {}

  void Shape(int which, const comm::ShapingOptions& options) {
    ports_[which] = comm::ShapePort(std::move(ports_[which]), options);
  }
  proto::ProbeLink Request(int which, Duration budget) const {
    return {.round = 4,
            .peer = {static_cast<uint64_t>(2 - which)},
            .address = ports_[1 - which]->address(),
            .leads = which == 0,
            .budget_us = static_cast<uint32_t>(
                std::chrono::duration_cast<std::chrono::microseconds>(budget).count())};
  }
  // What worker `which` + 1 reports.
  proto::LinkReport Probe(int which, Duration budget = testing::kPatience) {
    std::promise<void> done;
    LinkProber prober({clock_, *ports_[which], {static_cast<uint64_t>(which + 1)}, {}},
                      Request(which, budget), [&] { done.set_value(); });
    done.get_future().wait();
    auto report = prober.Take();
    EXPECT_TRUE(report.has_value());
    EXPECT_FALSE(prober.Take().has_value());
    return report.value_or(proto::LinkReport{});
  }
  std::pair<proto::LinkReport, proto::LinkReport> ProbeBoth() {
    auto echo = std::async(std::launch::async, [this] { return Probe(1); });
    const proto::LinkReport lead = Probe(0);
    return {lead, echo.get()};
  }

  const SteadyClock clock_;
  comm::LoopbackHub hub_;
  std::unique_ptr<comm::DataPort> ports_[2];
};

TEST_F(LinkProberTest, BothEndsReport) {
  const auto [lead, echo] = ProbeBoth();
  EXPECT_EQ(lead.error, "");
  EXPECT_EQ(lead.round, 4u);
  EXPECT_EQ(lead.peer, WorkerId{2});
  EXPECT_GT(lead.round_trip_s, 0);
  EXPECT_GT(lead.bytes_per_s, 0);
  EXPECT_GT(lead.message_s, 0);
  EXPECT_LT(lead.message_s, lead.round_trip_s);
  EXPECT_EQ(echo.error, "");
  EXPECT_EQ(echo.peer, WorkerId{1});
  EXPECT_EQ(echo.round_trip_s, 0);
  EXPECT_EQ(echo.bytes_per_s, 0);
  EXPECT_GT(echo.message_s, 0);
}

// Shaping never makes a way shorter than it says, whatever else runs on the machine.
TEST_F(LinkProberTest, ThereAndBackOverAShapedLinkIsTwiceItsLatency) {
  const comm::ShapingOptions shape{.latency = milliseconds(2), .bytes_per_s = 100e6};
  Shape(0, shape);
  Shape(1, shape);
  const auto [lead, echo] = ProbeBoth();
  EXPECT_EQ(lead.error, "");
  EXPECT_GE(lead.round_trip_s, 4e-3);
  EXPECT_GT(lead.bytes_per_s, 0);
}

// By wires that are not there, so that nothing disturbs what is measured.
struct Wire {
  double latency_s;  // one way
  double bytes_per_s;
  double noise;  // of the latency: each frame is late by up to this share of it
  double budget_s = 0.25;
};

// An end whose peer sends everything back at once. The clock goes by what the wire takes.
class EchoedLink final : public comm::Link {
 public:
  EchoedLink(const Wire& wire, ManualClock* clock) : wire_(wire), clock_(clock) {}

  WorkerId peer() const override { return {2}; }
  comm::LinkStats stats() const override { return {}; }
  Status Send(const comm::FrameView& frame, TimePoint) override {
    echo_.header.assign(frame.header.begin(), frame.header.end());
    echo_.payload.assign(frame.payload.begin(), frame.payload.end());
    largest_ = std::max(largest_, frame.payload.size());
    return OkStatus();
  }
  Status Receive(comm::Frame* frame, TimePoint) override {
    for (int way = 0; way < 2; ++way) {
      const double noise = wire_.noise * UniformAt(7, n_++);
      const double took_s = wire_.latency_s * (1 + noise) +
                            static_cast<double>(echo_.payload.size()) / wire_.bytes_per_s;
      clock_->Advance(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(took_s)));
    }
    *frame = echo_;
    return OkStatus();
  }
  size_t largest() const { return largest_; }

 private:
  const Wire wire_;
  ManualClock* const clock_;
  comm::Frame echo_;
  uint64_t n_ = 0;
  size_t largest_ = 0;
};

class ProbedWireTest : public ::testing::TestWithParam<Wire> {};

TEST_P(ProbedWireTest, IsMeasuredWithinATenth) {
  const Wire wire = GetParam();
  ManualClock clock;
  EchoedLink link(wire, &clock);
  const std::atomic<bool> stop{false};
  const TimePoint until = clock.Now() + std::chrono::duration_cast<Duration>(
                                            std::chrono::duration<double>(wire.budget_s));
  const auto figures = LeadProbe(link, clock, {1, until, until, stop});
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_NEAR(figures->round_trip_s / (2 * wire.latency_s), 1, 0.1);
  EXPECT_NEAR(figures->bytes_per_s / wire.bytes_per_s, 1, 0.1);
  EXPECT_LE(link.largest(), kMaxProbeBytes);
  // A last sample and the last frame.
  const double most_s = 2 * static_cast<double>(link.largest()) / wire.bytes_per_s;
  EXPECT_LT(Seconds(clock.Now() - until), most_s + 5 * wire.latency_s);
}

INSTANTIATE_TEST_SUITE_P(Wires, ProbedWireTest,
                         ::testing::Values(Wire{26e-6, 2.5e9, 0.1},          // loopback
                                           Wire{200e-6, 1.25e9, 0},          // 10 GbE, far away
                                           Wire{200e-6, 1.25e9, 0.1},        // not alone on it
                                           Wire{200e-6, 1.25e9, 0.1, 0.05},  // while it serves
                                           Wire{5e-3, 0.117e9, 0},  // 1 GbE, in another town
                                           Wire{5e-3, 0.117e9, 0.05}, Wire{1e-3, 1.25e9, 0.1},
                                           Wire{50e-6, 12.5e9, 0.1},
                                           Wire{17e-6, 1.15e9, 0.1, 0.02}));

// What there is no time for is not waited for.
TEST_F(LinkProberTest, ALargeFrameIsNoLargerThanItsTimeAllows) {
  ManualClock clock;
  EchoedLink link({.latency_s = 25e-3, .bytes_per_s = 12.5e6, .noise = 0}, &clock);
  const std::atomic<bool> stop{false};
  const TimePoint until = clock.Now() + milliseconds(250);
  const auto figures = LeadProbe(link, clock, {1, until, until, stop});
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_EQ(link.largest(), kFirstProbeBytes);
  EXPECT_NEAR(figures->bytes_per_s / 12.5e6, 1, 0.1);
}

// A wire whose other end sends everything back, at the wire's rate; who waits sees the clock go on.
class SlowLink final : public comm::Link {
 public:
  SlowLink(const Wire& wire, ManualClock* clock) : wire_(wire), clock_(clock) {}

  WorkerId peer() const override { return {2}; }
  comm::LinkStats stats() const override { return {}; }
  Status Send(const comm::FrameView& frame, TimePoint) override {
    comm::Frame echo{{frame.header.begin(), frame.header.end()},
                     {frame.payload.begin(), frame.payload.end()}};
    const double bytes_s = static_cast<double>(frame.payload.size()) / wire_.bytes_per_s;
    const auto way =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(2 * bytes_s));
    free_at_ = std::max(free_at_, clock_->Now()) + way;
    const auto latency =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(2 * wire_.latency_s));
    echoes_.push_back({free_at_ + latency, std::move(echo)});
    return OkStatus();
  }
  Status Receive(comm::Frame* frame, TimePoint deadline) override {
    const bool is_here = !echoes_.empty() && echoes_.front().first <= deadline;
    const TimePoint until = is_here ? echoes_.front().first : deadline;
    if (until > clock_->Now()) clock_->Advance(until - clock_->Now());
    if (!is_here) return DeadlineExceeded("nothing");
    *frame = std::move(echoes_.front().second);
    echoes_.pop_front();
    return OkStatus();
  }
  size_t n_under_way() const { return echoes_.size(); }

 private:
  const Wire wire_;
  ManualClock* const clock_;
  TimePoint free_at_;
  std::deque<std::pair<TimePoint, comm::Frame>> echoes_;
};

// Streams wait for a twentieth of a second, and a tenth more for the last answer: links of down to
// 10 Mbit/s are measured, of slower ones it is known that they are slower.
TEST(SlowLinkTest, IsMeasuredWhereThereIsTimeAndElseBounded) {
  struct Case {
    double latency_s, bytes_per_s;
    bool is_bound;
  };
  for (const Case& it : {Case{1e-3, 10e6, false},
                         {1e-3, 4e6, false},
                         {1e-3, 1.25e6, false},
                         {1e-3, 0.125e6, true},
                         {1e-3, 1e3, true},
                         {10e-3, 2e6, false},
                         {20e-3, 100e6, false},
                         {24e-3, 100e6, false},
                         {12e-3, 2e6, false},
                         {50e-3, 0.125e6, true},
                         {70e-3, 100e6, true}}) {
    ManualClock clock;
    SlowLink link({it.latency_s, it.bytes_per_s, 0}, &clock);
    const std::atomic<bool> stop{false};
    const TimePoint began = clock.Now();
    const ProbeTerms terms{1, began + milliseconds(50), began + milliseconds(150), stop};
    const auto figures = LeadProbe(link, clock, terms);
    ASSERT_TRUE(figures.ok()) << figures.status() << " " << it.bytes_per_s;
    EXPECT_LE(clock.Now() - began, milliseconds(150));
    EXPECT_NEAR(figures->round_trip_s / (2 * it.latency_s), 1, 0.01);
    EXPECT_EQ(figures->rate_is_bound, it.is_bound) << it.bytes_per_s;
    if (it.is_bound) {
      EXPECT_TRUE(figures->echo_waits);
      EXPECT_GT(figures->bytes_per_s, it.bytes_per_s) << "an upper bound";
      EXPECT_GT(link.n_under_way(), 0u) << "what was late comes some time";
    } else {
      EXPECT_NEAR(figures->bytes_per_s / it.bytes_per_s, 1, 0.1);
      EXPECT_EQ(link.n_under_way() > 0, figures->echo_waits);
    }
  }
}

TEST(SlowLinkTest, ABoundIsOfTheRateThatTheBytesDidNotReach) {
  ManualClock clock;
  SlowLink link({1e-3, 1e3, 0}, &clock);
  const std::atomic<bool> stop{false};
  const TimePoint began = clock.Now();
  const auto figures =
      LeadProbe(link, clock, {1, began + milliseconds(50), began + milliseconds(150), stop});
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_TRUE(figures->rate_is_bound);
  // 64 KiB there and back in what 20 ms for small frames leave of 150 ms.
  EXPECT_NEAR(figures->bytes_per_s / (2 * kFirstProbeBytes / 0.128), 1, 0.05);
}

// As a service asks: the echo is there first and has patience, the lead comes when it can.
TEST_F(LinkProberTest, AnEchoWaitsForALeadThatHasStepsToDo) {
  ManualClock clock;
  proto::ProbeLink request = Request(1, milliseconds(20));
  request.patience_us = 20'000'000;
  std::promise<void> done;
  LinkProber echo({clock, *ports_[1], {2}, {}}, request, [&] { done.set_value(); });
  clock.Advance(std::chrono::seconds(20));
  request = Request(0, testing::kPatience);
  request.patience_us = 1;
  const std::atomic<bool> stop{false};
  EXPECT_EQ(MeasureLink({clock_, *ports_[0], {1}, {}}, request, stop).error, "");
  done.get_future().wait();
  EXPECT_EQ(echo.Take()->error, "");
}

TEST_F(LinkProberTest, ALeadThatHasStepsToDoDoesNotWaitForAnEchoThatIsNotThere) {
  proto::ProbeLink request = Request(0, milliseconds(1));
  request.patience_us = 20'000'000;
  const std::atomic<bool> stop{false};
  EXPECT_EQ(MeasureLink({clock_, *ports_[0], {1}, {}}, request, stop).error, "no answer in time");
}

TEST_F(LinkProberTest, NothingIsLeftOnTheLink) {
  ProbeBoth();
  const auto [lead, echo] = ProbeBoth();  // over links opened again
  EXPECT_EQ(lead.error, "");
  EXPECT_EQ(echo.error, "");
  auto link = ports_[0]->Open({2}, ports_[1]->address());
  ASSERT_TRUE(link.ok()) << link.status();
  comm::Frame frame;
  EXPECT_EQ((*link)->Receive(&frame, clock_.Now() + milliseconds(1)).code(),
            StatusCode::kDeadlineExceeded);
}

// What a probe has sent before it was given up, at either end, is not the next one's.
TEST_F(LinkProberTest, FramesOfAnotherProbeAreDropped) {
  const std::atomic<bool> stop{false};
  const TimePoint until = clock_.Now() + std::chrono::minutes(5);
  for (const int left_by : {0, 1}) {
    auto mine =
        ports_[left_by]->Open({static_cast<uint64_t>(2 - left_by)}, ports_[1 - left_by]->address());
    auto others =
        ports_[1 - left_by]->Open({static_cast<uint64_t>(1 + left_by)}, ports_[left_by]->address());
    ASSERT_TRUE(mine.ok() && others.ok());
    const comm::Link& waits = **others;
    // A lead that nobody answers: its frames stay, as do those of its second try.
    for (const uint32_t round : {7, 8}) {
      const TimePoint now = clock_.Now();
      EXPECT_EQ(LeadProbe(**mine, clock_, {round, now, now, stop}).status().code(),
                StatusCode::kDeadlineExceeded);
    }
    EXPECT_EQ(waits.stats().frames_received, 0u);
    auto echo = std::async(std::launch::async, [&] {
      return left_by == 0 ? EchoProbe(**others, clock_, {9, until, until, stop})
                          : EchoProbe(**mine, clock_, {9, until, until, stop});
    });
    const TimePoint measure_until = clock_.Now() + milliseconds(20);
    const auto lead = left_by == 0 ? LeadProbe(**mine, clock_, {9, measure_until, until, stop})
                                   : LeadProbe(**others, clock_, {9, measure_until, until, stop});
    EXPECT_TRUE(lead.ok()) << lead.status();
    EXPECT_TRUE(echo.get().ok());
    EXPECT_GT(waits.stats().frames_received, 2u);
    for (comm::Link* const link : {mine->get(), others->get()}) {
      comm::Frame frame;
      EXPECT_EQ(link->Receive(&frame, clock_.Now()).code(), StatusCode::kDeadlineExceeded)
          << "nothing is left";
    }
  }
}

TEST_F(LinkProberTest, APeerThatDoesNotAnswerIsGivenUp) {
  const proto::LinkReport report = Probe(0, milliseconds(1));
  EXPECT_EQ(report.error, "no answer in time");
}

TEST_F(LinkProberTest, EndsWithItsOwner) {
  bool told = false;
  {
    const LinkProber prober({clock_, *ports_[0], {1}, {}}, Request(0, std::chrono::seconds(50)),
                            [&] { told = true; });
  }
  EXPECT_TRUE(told);
}

TEST_F(LinkProberTest, ALinkShapedAtOneEndOnlyIsFoundOut) {
  Shape(0, {.latency = milliseconds(1)});
  const LinkProber lead({clock_, *ports_[0], {1}, {}}, Request(0, testing::kPatience), [] {});
  EXPECT_THAT(Probe(1).error, HasSubstr("--shape"));
}

}  // namespace
}  // namespace thermocline::worker
