#include "worker/link_prober.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "comm/data_ports.h"

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
  proto::LinkReport Probe(int which, Duration budget = milliseconds(200)) {
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

// Shaping never makes a link faster than it says, whatever else runs on the machine.
TEST_F(LinkProberTest, AShapedLinkIsMeasuredAsItIsShaped) {
  const comm::ShapingOptions shape{.latency = milliseconds(2), .bytes_per_s = 100e6};
  Shape(0, shape);
  Shape(1, shape);
  const auto [lead, echo] = ProbeBoth();
  EXPECT_EQ(lead.error, "");
  EXPECT_GE(lead.round_trip_s, 4e-3);
  EXPECT_LT(lead.bytes_per_s, 200e6);
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
  auto echo = std::async(std::launch::async, [this] { return Probe(1, milliseconds(1)); });
  Probe(0, milliseconds(1));
  EXPECT_THAT(echo.get().error, HasSubstr("--shape"));
}

}  // namespace
}  // namespace thermocline::worker
