// What every Mailbox must do, run on each of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <thread>

#include "comm/loopback.h"
#include "comm/mailbox.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;
using ::thermocline::testing::MakeFrame;
using ::thermocline::testing::Now;
using ::thermocline::testing::SameFrame;
using ::thermocline::testing::ViewOf;

constexpr int kQueueFrames = 8;

// One server and the means to connect to it.
class MailboxMaker {
 public:
  virtual ~MailboxMaker() = default;
  virtual std::unique_ptr<Mailbox> MakeServer() = 0;
  virtual Result<std::unique_ptr<Mailbox>> Connect(const Mailbox& server, PeerId self) = 0;
};

class ZmqMaker final : public MailboxMaker {
 public:
  std::unique_ptr<Mailbox> MakeServer() override {
    auto server = BindZmqMailbox(
        {.key = key_, .endpoints = {"tcp://127.0.0.1:*"}, .queue_frames = kQueueFrames});
    return std::move(server).value();
  }
  Result<std::unique_ptr<Mailbox>> Connect(const Mailbox& server, PeerId self) override {
    return ConnectZmqMailbox({.key = key_,
                              .endpoints = server.endpoints(),
                              .self = self,
                              .connect_timeout = kPatience,
                              .queue_frames = kQueueFrames});
  }

 private:
  const ClusterKey key_ = ClusterKey::Generate();
};

class LoopbackMaker final : public MailboxMaker {
 public:
  std::unique_ptr<Mailbox> MakeServer() override { return hub_.MakeServer(); }
  Result<std::unique_ptr<Mailbox>> Connect(const Mailbox&, PeerId self) override {
    return hub_.Connect(self);
  }

 private:
  LoopbackMailboxHub hub_{kQueueFrames};
};

struct Implementation {
  const char* name;
  std::unique_ptr<MailboxMaker> (*make)();
};

class MailboxConformance : public ::testing::TestWithParam<Implementation> {
 protected:
  std::unique_ptr<Mailbox> Connect(PeerId self) {
    return std::move(maker_->Connect(*server_, self)).value();
  }

  // The next message of `mailbox`, which must come.
  static Received MustReceive(Mailbox& mailbox) {
    auto received = mailbox.Receive(In(kPatience));
    EXPECT_TRUE(received.ok()) << received.status();
    if (!received.ok() || !received->has_value()) {
      ADD_FAILURE() << "no message";
      return {};
    }
    return std::move(**received);
  }

  // Sends again while the peer's queue is full.
  static void MustSend(Mailbox& mailbox, PeerId to, const Frame& frame) {
    const TimePoint deadline = In(kPatience);
    Status status = mailbox.Send(to, ViewOf(frame));
    while (status.code() == StatusCode::kResourceExhausted && Now() < deadline) {
      std::this_thread::yield();
      status = mailbox.Send(to, ViewOf(frame));
    }
    EXPECT_THAT(status, IsOk());
  }

  std::unique_ptr<MailboxMaker> maker_ = GetParam().make();
  std::unique_ptr<Mailbox> server_ = maker_->MakeServer();
};

TEST_P(MailboxConformance, CarriesMessagesBothWays) {
  const auto client = Connect(PeerId{77});
  ASSERT_THAT(client->Send(kServerPeer, ViewOf(MakeFrame(1, 50))), IsOk());
  const Received request = MustReceive(*server_);
  EXPECT_EQ(request.from, PeerId{77});
  EXPECT_TRUE(SameFrame(request.frame, MakeFrame(1, 50)));
  ASSERT_THAT(server_->Send(PeerId{77}, ViewOf(MakeFrame(2, 0))), IsOk());
  const Received reply = MustReceive(*client);
  EXPECT_EQ(reply.from, kServerPeer);
  EXPECT_TRUE(SameFrame(reply.frame, MakeFrame(2, 0)));
}

TEST_P(MailboxConformance, OnlyTheServerHasEndpoints) {
  EXPECT_THAT(server_->endpoints(), Not(IsEmpty()));
  EXPECT_THAT(Connect(PeerId{1})->endpoints(), IsEmpty());
}

TEST_P(MailboxConformance, ReachesAPeerThatHasSaidNothing) {
  const auto client = Connect(PeerId{5});
  // The server may learn of the connection an instant after the client does.
  const TimePoint deadline = In(kPatience);
  Status status = server_->Send(PeerId{5}, ViewOf(MakeFrame(3, 10)));
  while (status.code() == StatusCode::kUnavailable && Now() < deadline) {
    std::this_thread::yield();
    status = server_->Send(PeerId{5}, ViewOf(MakeFrame(3, 10)));
  }
  ASSERT_THAT(status, IsOk());
  EXPECT_TRUE(SameFrame(MustReceive(*client).frame, MakeFrame(3, 10)));
}

TEST_P(MailboxConformance, TellsPeersApart) {
  const auto a = Connect(PeerId{1}), b = Connect(PeerId{~uint64_t{0}});
  ASSERT_THAT(a->Send(kServerPeer, ViewOf(MakeFrame(10, 5))), IsOk());
  ASSERT_THAT(b->Send(kServerPeer, ViewOf(MakeFrame(20, 5))), IsOk());
  std::map<PeerId, Frame> received;
  for (int i = 0; i < 2; ++i) {
    Received message = MustReceive(*server_);
    received[message.from] = std::move(message.frame);
  }
  EXPECT_TRUE(SameFrame(received[PeerId{1}], MakeFrame(10, 5)));
  EXPECT_TRUE(SameFrame(received[PeerId{~uint64_t{0}}], MakeFrame(20, 5)));
  ASSERT_THAT(server_->Send(PeerId{1}, ViewOf(MakeFrame(11, 5))), IsOk());
  EXPECT_TRUE(SameFrame(MustReceive(*a).frame, MakeFrame(11, 5)));
}

TEST_P(MailboxConformance, KeepsOrderAndSizes) {
  const auto client = Connect(PeerId{9});
  std::thread sender([&] {
    for (uint64_t i = 0; i < 300; ++i) MustSend(*client, kServerPeer, MakeFrame(i, i * 37));
    MustSend(*client, kServerPeer, MakeFrame(300, 3 << 20));
  });
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_TRUE(SameFrame(MustReceive(*server_).frame, MakeFrame(i, i * 37))) << "message " << i;
  }
  EXPECT_TRUE(SameFrame(MustReceive(*server_).frame, MakeFrame(300, 3 << 20)));
  sender.join();
}

TEST_P(MailboxConformance, UnknownPeerIsUnavailable) {
  EXPECT_EQ(server_->Send(PeerId{42}, {}).code(), StatusCode::kUnavailable);
  const auto client = Connect(PeerId{1});
  EXPECT_EQ(client->Send(PeerId{42}, {}).code(), StatusCode::kUnavailable);
}

TEST_P(MailboxConformance, PeerZeroCannotConnect) {
  const auto client = maker_->Connect(*server_, kServerPeer);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.status().code(), StatusCode::kInvalidArgument);
}

TEST_P(MailboxConformance, RefusesMessageOverLimit) {
  const auto client = Connect(PeerId{1});
  const std::vector<std::byte> header(kMaxHeaderBytes + 1);
  EXPECT_EQ(client->Send(kServerPeer, {header, {}}).code(), StatusCode::kInvalidArgument);
  // Refused by its size alone, so the bytes need not exist.
  const std::span<const std::byte> payload(header.data(), kMaxMailboxPayloadBytes + 1);
  EXPECT_EQ(client->Send(kServerPeer, {{}, payload}).code(), StatusCode::kInvalidArgument);
}

TEST_P(MailboxConformance, DeadlineEndsTheWait) {
  constexpr Duration kWait = std::chrono::milliseconds(20);
  const TimePoint begin = Now();
  const auto received = server_->Receive(begin + kWait);
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_FALSE(received->has_value());
  EXPECT_GE(Now() - begin, kWait);
}

TEST_P(MailboxConformance, WakeEndsTheNextWait) {
  server_->Wake();
  const TimePoint begin = Now();
  const auto received = server_->Receive(In(kPatience));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_FALSE(received->has_value());
  EXPECT_LT(Now() - begin, kPatience);
}

// Each wake-up is answered before the next is made; none may be lost.
TEST_P(MailboxConformance, NoWakeIsLost) {
  constexpr int kWakes = 500;
  std::atomic<int> n_asked = 0, n_seen = 0;
  std::thread waker([&] {
    for (int i = 1; i <= kWakes; ++i) {
      n_asked = i;
      server_->Wake();
      while (n_seen < i) std::this_thread::yield();
    }
  });
  while (n_seen < kWakes) {
    const TimePoint deadline = In(kPatience);
    const auto received = server_->Receive(deadline);
    EXPECT_TRUE(received.ok()) << received.status();
    EXPECT_LT(Now(), deadline);
    n_seen = n_asked.load();
  }
  waker.join();
}

// Several threads send from the server while it receives, and the peer answers each message.
TEST_P(MailboxConformance, ManyThreadsMaySend) {
  constexpr int kThreads = 4, kMessages = 100;
  const auto client = Connect(PeerId{3});
  MustSend(*client, kServerPeer, MakeFrame(0, 0));
  MustReceive(*server_);
  std::thread echo([&] {
    for (int i = 0; i < kThreads * kMessages; ++i) {
      MustSend(*client, kServerPeer, MustReceive(*client).frame);
    }
  });
  std::vector<std::thread> senders;
  for (uint64_t t = 0; t < kThreads; ++t) {
    senders.emplace_back([&, t] {
      for (uint64_t i = 0; i < kMessages; ++i) {
        MustSend(*server_, PeerId{3}, MakeFrame(t * kMessages + i, 64));
      }
    });
  }
  std::map<uint64_t, uint64_t> next;  // by thread: messages of one thread keep their order
  for (int n = 0; n < kThreads * kMessages; ++n) {
    const Received message = MustReceive(*server_);
    uint64_t number = 0;
    ASSERT_EQ(message.frame.header.size(), sizeof(number));
    std::memcpy(&number, message.frame.header.data(), sizeof(number));
    EXPECT_TRUE(SameFrame(message.frame, MakeFrame(number, 64)));
    EXPECT_EQ(number % kMessages, next[number / kMessages]++);
  }
  for (std::thread& sender : senders) sender.join();
  echo.join();
}

TEST_P(MailboxConformance, FullQueueIsRefusedAndDrains) {
  const auto client = Connect(PeerId{1});
  MustSend(*client, kServerPeer, MakeFrame(0, 0));
  MustReceive(*server_);
  // Large, so that the system's own socket buffers fill too.
  const Frame frame = MakeFrame(1, 1 << 20);
  int n_sent = 0;
  Status status;
  while (n_sent < 1000 && (status = server_->Send(PeerId{1}, ViewOf(frame))).ok()) ++n_sent;
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_GE(n_sent, kQueueFrames);
  for (int i = 0; i < n_sent; ++i) EXPECT_TRUE(SameFrame(MustReceive(*client).frame, frame));
  MustSend(*server_, PeerId{1}, MakeFrame(2, 1));
  EXPECT_TRUE(SameFrame(MustReceive(*client).frame, MakeFrame(2, 1)));
}

TEST_P(MailboxConformance, VanishedPeerBecomesUnavailable) {
  auto client = Connect(PeerId{1});
  MustSend(*client, kServerPeer, MakeFrame(0, 0));
  MustReceive(*server_);
  client.reset();
  const TimePoint deadline = In(kPatience);
  Status status = server_->Send(PeerId{1}, {});
  while (status.code() != StatusCode::kUnavailable && Now() < deadline) {
    std::this_thread::yield();
    status = server_->Send(PeerId{1}, {});
  }
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
}

TEST_P(MailboxConformance, VanishedServerEndsTheClientAfterItsLastMessage) {
  const auto client = Connect(PeerId{1});
  MustSend(*client, kServerPeer, MakeFrame(0, 0));
  MustReceive(*server_);
  // Where the first of two has arrived, the other has left.
  for (const uint64_t number : {8, 9}) MustSend(*server_, PeerId{1}, MakeFrame(number, 100));
  EXPECT_TRUE(SameFrame(MustReceive(*client).frame, MakeFrame(8, 100)));
  server_.reset();
  EXPECT_TRUE(SameFrame(MustReceive(*client).frame, MakeFrame(9, 100)));
  const auto received = client->Receive(In(kPatience));
  ASSERT_FALSE(received.ok());
  EXPECT_EQ(received.status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(client->Send(kServerPeer, {}).code(), StatusCode::kUnavailable);
}

template <typename Maker>
std::unique_ptr<MailboxMaker> Make() {
  return std::make_unique<Maker>();
}

INSTANTIATE_TEST_SUITE_P(All, MailboxConformance,
                         ::testing::Values(Implementation{"zmq", Make<ZmqMaker>},
                                           Implementation{"loopback", Make<LoopbackMaker>}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace thermocline::comm
