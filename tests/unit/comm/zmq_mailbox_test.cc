// Who gets in and what happens to the others.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "base/str.h"
#include "comm/mailbox.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/reserved_port.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::thermocline::testing::In;
using ::thermocline::testing::InGrowingTime;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;
using ::thermocline::testing::MakeFrame;
using ::thermocline::testing::ReservedPort;
using ::thermocline::testing::SameFrame;
using ::thermocline::testing::ViewOf;

using std::chrono::milliseconds;

std::unique_ptr<Mailbox> Bind(const ClusterKey& key, std::string endpoint = "tcp://127.0.0.1:*") {
  return std::move(BindZmqMailbox({.key = key, .endpoints = {std::move(endpoint)}})).value();
}

Result<std::unique_ptr<Mailbox>> Connect(const ClusterKey& key, std::vector<std::string> endpoints,
                                         Duration timeout) {
  return ConnectZmqMailbox({.key = key,
                            .endpoints = std::move(endpoints),
                            .self = PeerId{1},
                            .connect_timeout = timeout});
}

void ExpectNothingArrives(Mailbox& server) {
  const auto received = server.Receive(In(milliseconds(100)));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_FALSE(received->has_value());
}

// The server is as good as new.
void ExpectServes(Mailbox& server, const ClusterKey& key) {
  const auto client = Connect(key, server.endpoints(), kPatience);
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_THAT((*client)->Send(kServerPeer, ViewOf(MakeFrame(1, 1))), IsOk());
  const auto received = server.Receive(In(kPatience));
  ASSERT_TRUE(received.ok()) << received.status();
  ASSERT_TRUE(received->has_value());
  EXPECT_TRUE(SameFrame((*received)->frame, MakeFrame(1, 1)));
}

// A DEALER as a stranger would make it, in a context of its own.
class StrangerSocket {
 public:
  StrangerSocket() : socket_(zmq_socket(context_, ZMQ_DEALER)) {
    const int linger = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof(linger));
  }
  ~StrangerSocket() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  void Set(int option, const std::string& value) {
    EXPECT_EQ(zmq_setsockopt(socket_, option, value.data(), value.size()), 0);
  }
  void ConnectAndSend(const std::string& endpoint, const std::string& bytes, int n_parts = 1) {
    ASSERT_EQ(zmq_connect(socket_, endpoint.c_str()), 0);
    for (int i = 0; i < n_parts; ++i) {
      const int more = i + 1 < n_parts ? ZMQ_SNDMORE : 0;
      ASSERT_GE(zmq_send(socket_, bytes.data(), bytes.size(), more), 0);
    }
  }

 private:
  void* const context_ = zmq_ctx_new();
  void* const socket_;
};

std::string FrameBytes() {
  std::vector<std::byte> bytes;
  EncodeFrame(ViewOf(MakeFrame(1, 1)), &bytes);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

TEST(ZmqMailboxSecurity, WrongKeyIsRefused) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  const auto client = Connect(ClusterKey::Generate(), server->endpoints(), kPatience);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(client.status().message(), HasSubstr("wrong cluster key"));
  ExpectNothingArrives(*server);
  ExpectServes(*server, key);
}

TEST(ZmqMailboxSecurity, NoCurveGetsNothingThrough) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  StrangerSocket stranger;
  stranger.Set(ZMQ_ROUTING_ID, std::string("P") + std::string(7, 'x') + "y");
  stranger.ConnectAndSend(server->endpoints()[0], FrameBytes());
  ExpectNothingArrives(*server);
  ExpectServes(*server, key);
}

// Knows the server's public key, which is no secret, but has a client key of its own: only the
// authenticator stands in its way.
TEST(ZmqMailboxSecurity, UnknownClientKeyGetsNothingThrough) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  const ClusterKey::CurvePair own = ClusterKey::Generate().Client();
  StrangerSocket stranger;
  stranger.Set(ZMQ_ROUTING_ID, std::string("P") + std::string(7, 'x') + "y");
  stranger.Set(ZMQ_CURVE_SERVERKEY, key.Server().public_key);
  stranger.Set(ZMQ_CURVE_PUBLICKEY, own.public_key);
  stranger.Set(ZMQ_CURVE_SECRETKEY, own.secret_key);
  stranger.ConnectAndSend(server->endpoints()[0], FrameBytes());
  ExpectNothingArrives(*server);
  ExpectServes(*server, key);
}

TEST(ZmqMailboxSecurity, PlainTcpIsNoHarm) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  const std::string endpoint = server->endpoints()[0];
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port =
      htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  ExpectNothingArrives(*server);
  ExpectServes(*server, key);
  close(fd);
}

// Holds the key but speaks another language: dropped, and its neighbours do not notice.
TEST(ZmqMailboxSecurity, MalformedMessagesOfAPeerAreDropped) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  const auto send = [&](const std::string& routing_id, const std::string& bytes, int n_parts) {
    const ClusterKey::CurvePair client = key.Client();
    auto stranger = std::make_unique<StrangerSocket>();
    stranger->Set(ZMQ_ROUTING_ID, routing_id);
    stranger->Set(ZMQ_CURVE_SERVERKEY, key.Server().public_key);
    stranger->Set(ZMQ_CURVE_PUBLICKEY, client.public_key);
    stranger->Set(ZMQ_CURVE_SECRETKEY, client.secret_key);
    stranger->ConnectAndSend(server->endpoints()[0], bytes, n_parts);
    return stranger;
  };
  const std::string peer = std::string("P") + std::string(7, 'x');
  const auto cut_short = send(peer + "1", FrameBytes().substr(1), 1);
  const auto empty = send(peer + "2", "", 1);
  const auto three_parts = send(peer + "3", FrameBytes(), 3);
  const auto no_peer = send("somebody", FrameBytes(), 1);
  const auto peer_zero = send(std::string("P") + std::string(8, '\0'), FrameBytes(), 1);
  ExpectNothingArrives(*server);
  // The same way in does work for a well-formed message.
  const auto good = send(peer + "4", FrameBytes(), 1);
  const auto received = server->Receive(In(kPatience));
  ASSERT_TRUE(received.ok() && received->has_value());
  EXPECT_TRUE(SameFrame((*received)->frame, MakeFrame(1, 1)));
  ExpectServes(*server, key);
}

TEST(ZmqMailbox, ConnectNamesEachCandidateAndCause) {
  const auto client = Connect(ClusterKey::Generate(), {"tcp://127.0.0.1:1", "tcp://127.0.0.1:2"},
                              milliseconds(200));
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(client.status().message(), HasSubstr("tcp://127.0.0.1:1 (refused)"));
  EXPECT_THAT(client.status().message(), HasSubstr("tcp://127.0.0.1:2 (refused)"));
}

// Accepts connections by way of its backlog, and never says a word.
TEST(ZmqMailbox, ConnectToASilentPortEnds) {
  const ReservedPort port;
  ASSERT_EQ(listen(port.fd(), 50), 0);
  const std::vector<std::string> endpoints = {Str("tcp://127.0.0.1:", port.number())};
  // On a machine that stalls the time may be over before the port has accepted.
  EXPECT_TRUE(InGrowingTime(milliseconds(300), [&](Duration timeout) {
    const auto client = Connect(ClusterKey::Generate(), endpoints, timeout);
    EXPECT_EQ(client.status().code(), StatusCode::kUnavailable);
    return client.status().message().find("does not answer") != std::string::npos;
  }));
}

// Where nobody is, so that it is tried again and again.
TEST(ZmqMailbox, AStopEndsConnecting) {
  const ReservedPort port;
  std::atomic<bool> stop{false};
  std::thread stopper([&] {
    std::this_thread::sleep_for(milliseconds(20));  // most likely it connects by now
    stop = true;
  });
  const auto client = ConnectZmqMailbox({.key = ClusterKey::Generate(),
                                         .endpoints = {Str("tcp://127.0.0.1:", port.number())},
                                         .self = PeerId{1},
                                         .connect_timeout = kPatience,
                                         .stop = &stop});
  EXPECT_EQ(client.status().code(), StatusCode::kAborted) << client.status();
  stopper.join();
}

TEST(ZmqMailbox, ConnectSkipsCandidatesThatDoNotAnswer) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  const auto client = Connect(key, {"tcp://127.0.0.1:1", server->endpoints()[0]}, kPatience);
  EXPECT_TRUE(client.ok()) << client.status();
}

TEST(ZmqMailbox, ConnectWaitsForAServerThatComesUpLater) {
  const ClusterKey key = ClusterKey::Generate();
  const ReservedPort port;
  const std::string endpoint = Str("tcp://127.0.0.1:", port.number());
  std::unique_ptr<Mailbox> server;
  std::thread late([&] {
    std::this_thread::sleep_for(milliseconds(120));
    server = Bind(key, endpoint);
  });
  const auto client = Connect(key, {endpoint}, kPatience);
  EXPECT_TRUE(client.ok()) << client.status();
  late.join();
}

TEST(ZmqMailbox, BindNamesThePortInUse) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key);
  const auto second = BindZmqMailbox({.key = key, .endpoints = server->endpoints()});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(second.status().message(), HasSubstr(server->endpoints()[0]));
  EXPECT_THAT(second.status().message(), HasSubstr("in use"));
}

TEST(ZmqMailbox, BindRefusesMalformedOptions) {
  const ClusterKey key = ClusterKey::Generate();
  for (const std::vector<std::string>& endpoints :
       {std::vector<std::string>{}, {"ipc:///tmp/x"}, {"tcp://127.0.0.1:*", "tcp://127.0.0.1:*"}}) {
    const auto server = BindZmqMailbox({.key = key, .endpoints = endpoints});
    ASSERT_FALSE(server.ok());
    EXPECT_EQ(server.status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(ZmqMailbox, WildcardListsRealEndpoints) {
  const ClusterKey key = ClusterKey::Generate();
  const auto server = Bind(key, "tcp://0.0.0.0:*");
  ASSERT_FALSE(server->endpoints().empty());
  EXPECT_THAT(server->endpoints().back(), HasSubstr("tcp://127.0.0.1:"));
  for (const std::string& endpoint : server->endpoints()) {
    const auto client = Connect(key, {endpoint}, kPatience);
    EXPECT_TRUE(client.ok()) << client.status();
  }
  EXPECT_THAT(Bind(key)->endpoints(), SizeIs(1));
}

}  // namespace
}  // namespace thermocline::comm
