#include "worker/control_loop.h"

#include <gtest/gtest.h>

#include <thread>

#include "comm/loopback.h"
#include "proto/codec.h"

namespace thermocline::worker {
namespace {

constexpr comm::PeerId kPeer{5};

// A worker whose coordinator answers its hello as the test says.
class ControlLoopTest : public ::testing::Test {
 protected:
  void Answer(const proto::Message& message) {
    std::vector<std::byte> bytes;
    proto::Encode(message, &bytes);
    ASSERT_TRUE(server_->Send(kPeer, {bytes, {}}).ok());
  }

  Status Run() {
    WorkerOptions options;
    options.n_threads = 1;
    ControlLoop loop(options, clock_, *mailbox_, kPeer, {}, kernels::MakeReferenceDevice());
    return loop.Run(requests_);
  }

  // Messages of type T that the worker sent.
  template <typename T>
  int NumSent() {
    int n = 0;
    while (true) {
      const auto received = server_->Receive(clock_.Now());
      if (!received.ok() || !*received) return n;
      const auto message = proto::Decode((*received)->frame.header);
      n += message.ok() && std::holds_alternative<T>(*message);
    }
  }

  const ManualClock clock_{};  // stands still: however late the coordinator is, it is not silent
  comm::LoopbackMailboxHub hub_;
  const std::unique_ptr<comm::Mailbox> server_ = hub_.MakeServer();
  const std::unique_ptr<comm::Mailbox> mailbox_ = std::move(hub_.Connect(kPeer)).value();
  WorkerRequests requests_;
};

TEST_F(ControlLoopTest, ARefusalIsAnErrorThatSaysWhy) {
  Answer(proto::Failure{InvalidArgument("another protocol version: 2")});
  const Status status = Run();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "refused by the coordinator: another protocol version: 2");
  EXPECT_EQ(NumSent<proto::Failure>(), 0) << "a refusal is not reported back";
}

TEST_F(ControlLoopTest, AShutdownBeforeTheWelcomeIsARefusalToo) {
  Answer(proto::Shutdown{"all places are taken"});
  const Status status = Run();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "refused by the coordinator: all places are taken");
}

TEST_F(ControlLoopTest, AShutdownAfterTheWelcomeIsAnOrderlyEnd) {
  Answer(proto::Welcome{WorkerId{1}, Epoch{1}});
  Answer(proto::Shutdown{"the service stops"});
  const Status status = Run();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(ControlLoopTest, AProbeWithoutAPortIsReportedAsAnError) {
  Answer(proto::Welcome{WorkerId{1}, Epoch{1}});
  Answer(proto::ProbeLink{.round = 2, .peer = {9}, .transport = placement::LinkKind::kMpi});
  Answer(proto::Shutdown{"the service stops"});
  const Status status = Run();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(NumSent<proto::LinkReport>(), 1);
}

TEST_F(ControlLoopTest, AStopSaysGoodbye) {
  requests_.stop = true;
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(NumSent<proto::Shutdown>(), 1);
}

TEST_F(ControlLoopTest, LeavesWhenTheCoordinatorLetsItGo) {
  requests_.leave = true;
  Answer(proto::Welcome{WorkerId{1}, Epoch{1}});
  Answer(proto::Stay{"nothing fits without you"});
  Answer(proto::Shutdown{"its work is done elsewhere now"});
  EXPECT_TRUE(Run().ok());
  EXPECT_EQ(NumSent<proto::Leaving>(), 1);
}

TEST_F(ControlLoopTest, OnlyWhoIsWelcomeMayLeavePolitely) {
  EXPECT_FALSE(requests_.may_leave);
  std::thread coordinator([this] {
    Answer(proto::Welcome{WorkerId{1}, Epoch{1}});
    while (!requests_.may_leave) std::this_thread::yield();
    requests_.leave = true;
    while (requests_.may_leave) std::this_thread::yield();  // asked once, not politely again
    requests_.stop = true;
  });
  EXPECT_TRUE(Run().ok());
  coordinator.join();
}

TEST_F(ControlLoopTest, NeuronTablesAreBounded) {
  Answer(proto::Welcome{WorkerId{1}, Epoch{1}});
  std::atomic<bool> is_over{false};
  std::thread coordinator([&] {
    std::vector<std::byte> bytes;
    proto::Encode(proto::NeuronTable{Epoch{2}, 0, {0}}, &bytes);
    for (int i = 0; i <= model::kMaxLayers && !is_over;) {
      i += server_->Send(kPeer, {bytes, {}}).ok() ? 1 : 0;  // its queue may be full
    }
  });
  EXPECT_EQ(Run().code(), StatusCode::kDataLoss);
  is_over = true;
  coordinator.join();
}

}  // namespace
}  // namespace thermocline::worker
