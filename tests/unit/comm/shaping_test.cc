#include <gtest/gtest.h>

#include <set>

#include "comm/data_ports.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using std::chrono::milliseconds;
using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;
using ::thermocline::testing::MakeFrame;
using ::thermocline::testing::Now;
using ::thermocline::testing::SameFrame;
using ::thermocline::testing::ViewOf;

// Both ends of one shaped link in this thread.
class Shaping : public ::testing::Test {
 protected:
  void Join(const ShapingOptions& options) {
    for (auto& port : ports_) port.reset();
    ports_[0] = hub_.MakePort(WorkerId{0});
    ports_[1] = hub_.MakePort(WorkerId{1});
    for (uint64_t i : {0, 1}) {
      links_[i] = ShapeLink(
          std::move(ports_[i]->Open(WorkerId{1 - i}, ports_[1 - i]->address())).value(), options);
    }
  }

  void Send(const Frame& frame) {
    ASSERT_THAT(links_[0]->Send(ViewOf(frame), In(kPatience)), IsOk());
  }

  // The numbers of the frames among the first `n` that arrive.
  std::set<uint64_t> Survivors(uint64_t n) {
    std::set<uint64_t> arrived;
    Frame frame;
    for (uint64_t i = 0; i < n; ++i) {
      Send(MakeFrame(i, 1));
      if (links_[1]->Receive(&frame, Now()).ok()) {
        EXPECT_TRUE(SameFrame(frame, MakeFrame(i, 1)));
        arrived.insert(i);
      }
    }
    return arrived;
  }

  LoopbackHub hub_;
  std::unique_ptr<DataPort> ports_[2];
  std::unique_ptr<Link> links_[2];
};

TEST_F(Shaping, NothingIsVisibleBeforeTheLatency) {
  // Longer than machines stall, and within what stamps may say.
  constexpr Duration kLatency = std::chrono::seconds(25);
  Join({.latency = kLatency});
  const TimePoint begin = Now();
  Send(MakeFrame(1, 10));
  EXPECT_LT(Now() - begin, kLatency) << "the sender does not wait";
  Frame frame;
  EXPECT_EQ(links_[1]->Receive(&frame, In(milliseconds(1))).code(), StatusCode::kDeadlineExceeded);
}

TEST_F(Shaping, FrameIsVisibleAfterTheLatency) {
  constexpr Duration kLatency = milliseconds(30);
  Join({.latency = kLatency});
  const TimePoint begin = Now();
  Send(MakeFrame(1, 10));
  Send(MakeFrame(2, 10));
  Frame frame;
  ASSERT_THAT(links_[1]->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_GE(Now() - begin, kLatency);
  EXPECT_TRUE(SameFrame(frame, MakeFrame(1, 10)));
  ASSERT_THAT(links_[1]->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_TRUE(SameFrame(frame, MakeFrame(2, 10)));
}

TEST_F(Shaping, FramesLeaveAtTheRate) {
  Join({.bytes_per_s = 1e6});
  const TimePoint begin = Now();
  for (int i = 0; i < 4; ++i) Send(MakeFrame(1, 10'000));
  Frame frame;
  for (int i = 0; i < 4; ++i) ASSERT_THAT(links_[1]->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_GE(Now() - begin, milliseconds(40));
}

TEST_F(Shaping, DropsTheSameFramesForTheSameSeed) {
  constexpr uint64_t kFrames = 1000;
  Join({.drop_rate = 0.2, .seed = 11});
  const std::set<uint64_t> first = Survivors(kFrames);
  // 800 expected, standard deviation 12.6: five of them either way.
  EXPECT_GT(first.size(), 737u);
  EXPECT_LT(first.size(), 863u);
  Join({.drop_rate = 0.2, .seed = 11});
  EXPECT_EQ(Survivors(kFrames), first);
  Join({.drop_rate = 0.2, .seed = 12});
  EXPECT_NE(Survivors(kFrames), first);
}

TEST_F(Shaping, FrameWithoutStampIsDataLoss) {
  Join({});
  const auto bare = std::move(ports_[0]->Open(WorkerId{1}, ports_[1]->address())).value();
  ASSERT_THAT(bare->Send({}, In(kPatience)), IsOk());
  Frame frame;
  EXPECT_EQ(links_[1]->Receive(&frame, In(kPatience)).code(), StatusCode::kDataLoss);
}

TEST(ShapePort, ShapesEveryLinkItOpens) {
  LoopbackHub hub;
  std::unique_ptr<DataPort> ports[2];
  for (uint64_t i : {0, 1}) {
    ports[i] = ShapePort(hub.MakePort(WorkerId{i}), {.latency = milliseconds(20)});
  }
  std::unique_ptr<Link> links[2];
  for (uint64_t i : {0, 1}) {
    links[i] = std::move(ports[i]->Open(WorkerId{1 - i}, ports[1 - i]->address())).value();
  }
  const Frame sent = MakeFrame(3, 5);
  const TimePoint began = Now();
  ASSERT_THAT(links[0]->Send(ViewOf(sent), In(kPatience)), IsOk());
  Frame frame;
  ASSERT_THAT(links[1]->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_TRUE(SameFrame(frame, sent));
  EXPECT_GE(Now() - began, milliseconds(20));
}

TEST(ParseShaping, WhatLinksShouldBeLike) {
  const auto options = ParseShaping("latency=200us,bandwidth=1.25GB/s,drop=0.5,seed=7");
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->latency, std::chrono::microseconds(200));
  EXPECT_EQ(options->bytes_per_s, 1.25e9);
  EXPECT_EQ(options->drop_rate, 0.5);
  EXPECT_EQ(options->seed, 7u);
  EXPECT_EQ(ParseShaping("latency=1.5ms")->latency, std::chrono::microseconds(1500));
  EXPECT_EQ(ParseShaping("bandwidth=80MB/s")->bytes_per_s, 80e6);
  for (const char* wrong :
       {"", "latency", "latency=", "latency=5", "latency=-1us", "latency=11s", "bandwidth=0GB/s",
        "bandwidth=1Gb", "drop=1.5", "drop=x", "seed=-1", "colour=1", "latency=1us,latency=2us",
        "latency=1us,", "latency=nanus"}) {
    EXPECT_EQ(ParseShaping(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

}  // namespace
}  // namespace thermocline::comm
