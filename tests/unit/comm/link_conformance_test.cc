// What every Link must do, run on each of them that needs one process only.
#include "tests/support/link_conformance.h"

#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "comm/data_ports.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;
using ::thermocline::testing::LinkCase;
using ::thermocline::testing::LinkConformanceCases;
using ::thermocline::testing::MakeFrame;
using ::thermocline::testing::Now;
using ::thermocline::testing::SameFrame;
using ::thermocline::testing::ViewOf;

// Two workers joined by a link; its ends in `links`.
struct Joined {
  std::unique_ptr<LoopbackHub> hub;
  std::unique_ptr<DataPort> ports[2];
  std::unique_ptr<Link> links[2];

  void Open() {
    for (uint64_t i : {0, 1}) {
      links[i] = std::move(ports[i]->Open(WorkerId{1 - i}, ports[1 - i]->address())).value();
    }
  }
};

Joined JoinLoopback() {
  Joined joined;
  joined.hub = std::make_unique<LoopbackHub>();
  for (uint64_t i : {0, 1}) joined.ports[i] = joined.hub->MakePort(WorkerId{i});
  joined.Open();
  return joined;
}

Joined JoinZmq() {
  const ClusterKey key = ClusterKey::Generate();
  Joined joined;
  for (uint64_t i : {0, 1}) {
    joined.ports[i] =
        std::move(MakeZmqDataPort({.key = key, .self = WorkerId{i}, .connect_timeout = kPatience}))
            .value();
  }
  joined.Open();
  return joined;
}

Joined JoinShaped() {
  Joined joined = JoinLoopback();
  for (auto& link : joined.links) {
    link =
        ShapeLink(std::move(link), {.latency = std::chrono::microseconds(200), .bytes_per_s = 1e9});
  }
  return joined;
}

struct Implementation {
  const char* name;
  Joined (*join)();
};

constexpr Implementation kImplementations[] = {
    {"loopback", JoinLoopback}, {"zmq", JoinZmq}, {"shaped", JoinShaped}};

class LinkConformance : public ::testing::TestWithParam<std::tuple<Implementation, LinkCase>> {};

TEST_P(LinkConformance, Case) {
  Joined joined = std::get<0>(GetParam()).join();
  const LinkCase& link_case = std::get<1>(GetParam());
  std::barrier<> both(2);
  const auto barrier = [&] { both.arrive_and_wait(); };
  std::thread other([&] { link_case.run({1, *joined.links[1], barrier}); });
  link_case.run({0, *joined.links[0], barrier});
  other.join();
}

INSTANTIATE_TEST_SUITE_P(All, LinkConformance,
                         ::testing::Combine(::testing::ValuesIn(kImplementations),
                                            ::testing::ValuesIn(LinkConformanceCases())),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::string(std::get<1>(info.param).name);
                         });

class LinkLoss : public ::testing::TestWithParam<Implementation> {};

TEST_P(LinkLoss, VanishedPeerIsKnownAfterItsLastFrame) {
  Joined joined = GetParam().join();
  Frame frame;
  // Where the first of two has arrived, the other has left.
  for (const uint64_t number : {3, 4}) {
    ASSERT_THAT(joined.links[1]->Send(ViewOf(MakeFrame(number, 100)), In(kPatience)), IsOk());
  }
  ASSERT_THAT(joined.links[0]->Receive(&frame, In(kPatience)), IsOk());
  joined.links[1].reset();
  joined.ports[1].reset();
  ASSERT_THAT(joined.links[0]->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_TRUE(SameFrame(frame, MakeFrame(4, 100)));
  EXPECT_EQ(joined.links[0]->Receive(&frame, In(kPatience)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(joined.links[0]->Send({}, In(kPatience)).code(), StatusCode::kUnavailable);
}

// A new epoch opens its links anew, one end before the other; nothing sent meanwhile is lost.
TEST_P(LinkLoss, LinkOpenedAgainWorks) {
  Joined joined = GetParam().join();
  Frame frame;
  for (int round = 0; round < 3; ++round) {
    joined.links[0].reset();
    joined.links[0] =
        std::move(joined.ports[0]->Open(WorkerId{1}, joined.ports[1]->address())).value();
    if (GetParam().join == JoinShaped) joined.links[0] = ShapeLink(std::move(joined.links[0]), {});
    for (uint64_t i = 0; i < kLinkWindowFrames; ++i) {
      ASSERT_THAT(joined.links[0]->Send(ViewOf(MakeFrame(i, 10)), In(kPatience)), IsOk());
    }
    for (uint64_t i = 0; i < kLinkWindowFrames; ++i) {
      ASSERT_THAT(joined.links[1]->Receive(&frame, In(kPatience)), IsOk());
      ASSERT_TRUE(SameFrame(frame, MakeFrame(i, 10)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinkLoss, ::testing::ValuesIn(kImplementations),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace thermocline::comm
