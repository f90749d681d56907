#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "comm/data_ports.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using ::testing::HasSubstr;
using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;
using ::thermocline::testing::MakeFrame;
using ::thermocline::testing::SameFrame;
using ::thermocline::testing::ViewOf;

std::unique_ptr<DataPort> MakePort(const ClusterKey& key, uint64_t self,
                                   Duration connect_timeout = kPatience) {
  return std::move(MakeZmqDataPort(
                       {.key = key, .self = WorkerId{self}, .connect_timeout = connect_timeout}))
      .value();
}

std::unique_ptr<Link> Open(DataPort& from, uint64_t peer, const DataPort& to) {
  return std::move(from.Open(WorkerId{peer}, to.address())).value();
}

// Worker 1 fills its window towards worker 0, which reads only worker 2.
TEST(ZmqLink, APeerThatNobodyReadsDoesNotStarveAnother) {
  const ClusterKey key = ClusterKey::Generate();
  const auto port0 = MakePort(key, 0), port1 = MakePort(key, 1), port2 = MakePort(key, 2);
  const auto from1 = Open(*port1, 0, *port0), from2 = Open(*port2, 0, *port0);
  const auto to1 = Open(*port0, 1, *port1), to2 = Open(*port0, 2, *port2);
  Status status;
  uint64_t n_sent = 0;
  while ((status = from1->Send(ViewOf(MakeFrame(n_sent, 1000)), In(Duration{0}))).ok()) ++n_sent;
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(n_sent, static_cast<uint64_t>(kLinkWindowFrames));
  Frame frame;
  for (uint64_t i = 0; i < 200; ++i) {
    ASSERT_THAT(from2->Send(ViewOf(MakeFrame(i, 1000)), In(kPatience)), IsOk());
    ASSERT_THAT(to2->Receive(&frame, In(kPatience)), IsOk());
    ASSERT_TRUE(SameFrame(frame, MakeFrame(i, 1000)));
  }
  for (uint64_t i = 0; i < n_sent; ++i) {
    ASSERT_THAT(to1->Receive(&frame, In(kPatience)), IsOk());
    ASSERT_TRUE(SameFrame(frame, MakeFrame(i, 1000)));
  }
  // Credit has come back.
  ASSERT_THAT(from1->Send({}, In(kPatience)), IsOk());
}

// A worker that joins learns its id only after it has told everybody its address.
TEST(ZmqLink, FramesArriveUnderAnIdThatWasAssignedLater) {
  const ClusterKey key = ClusterKey::Generate();
  const auto port1 = MakePort(key, 0), port2 = MakePort(key, 0);
  port1->SetSelf(WorkerId{1});
  port2->SetSelf(WorkerId{2});
  const auto to2 = Open(*port1, 2, *port2), to1 = Open(*port2, 1, *port1);
  Frame frame;
  ASSERT_THAT(to2->Send(ViewOf(MakeFrame(7, 100)), In(kPatience)), IsOk());
  ASSERT_THAT(to1->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_TRUE(SameFrame(frame, MakeFrame(7, 100)));
}

// Wherever in the key exchange that was, which the machine's speed decides.
TEST(ZmqLink, AfterConnectionsThatWereGivenUpTheNextOneWorks) {
  const ClusterKey key = ClusterKey::Generate();
  const auto port1 = MakePort(key, 1), port2 = MakePort(key, 2);
  const auto to1 = port2->OpenWithin(WorkerId{1}, port1->address(), kPatience);
  ASSERT_TRUE(to1.ok()) << to1.status();
  for (int us = 100; us < 3000; us += 50) {
    (void)port1->OpenWithin(WorkerId{2}, port2->address(), std::chrono::microseconds(us));
  }
  const auto to2 = port1->OpenWithin(WorkerId{2}, port2->address(), kPatience);
  ASSERT_TRUE(to2.ok()) << to2.status();
  Frame frame;
  ASSERT_THAT((*to2)->Send(ViewOf(MakeFrame(7, 100)), In(kPatience)), IsOk());
  ASSERT_THAT((*to1)->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_TRUE(SameFrame(frame, MakeFrame(7, 100)));
}

TEST(ZmqLink, WrongKeyIsUnavailable) {
  const auto port0 = MakePort(ClusterKey::Generate(), 0);
  const auto port1 = MakePort(ClusterKey::Generate(), 1);
  const auto link = port1->Open(WorkerId{0}, port0->address());
  ASSERT_FALSE(link.ok());
  EXPECT_EQ(link.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(link.status().message(), HasSubstr("wrong cluster key"));
}

TEST(ZmqLink, NobodyThereIsUnavailable) {
  const auto port = MakePort(ClusterKey::Generate(), 0, std::chrono::milliseconds(200));
  const auto link = port->Open(WorkerId{3}, "tcp://127.0.0.1:1");
  ASSERT_FALSE(link.ok());
  EXPECT_EQ(link.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(link.status().message(), HasSubstr("worker 3"));
  EXPECT_THAT(link.status().message(), HasSubstr("refused"));
}

TEST(ZmqLink, MalformedAddressIsInvalid) {
  const auto port = MakePort(ClusterKey::Generate(), 0);
  for (const char* address : {"", "mpi:1", "tcp://127.0.0.1:*", "tcp://127.0.0.1"}) {
    const auto link = port->Open(WorkerId{3}, address);
    ASSERT_FALSE(link.ok()) << address;
    EXPECT_EQ(link.status().code(), StatusCode::kInvalidArgument) << address;
  }
}

}  // namespace
}  // namespace thermocline::comm
