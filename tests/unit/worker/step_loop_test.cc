#include "worker/step_loop.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <filesystem>
#include <future>
#include <thread>

#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "proto/codec.h"
#include "tests/support/patience.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tests/support/worker_talk.h"
#include "worker/link_prober.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;
using testing::kPatience;
using testing::OneEntry;
using testing::TempFile;

// A stop is faster on any machine; what it interrupts would take 30 s, or half an hour.
constexpr Duration kSoon = std::chrono::seconds(25);
constexpr WorkerId kPrevious{1}, kSelf{2}, kNext{3}, kJoined{9};

// Frames leave only after a few flushes, as MPI's leave only in its calls; with `stuck` the peer
// takes none at all.
class LazyLink final : public comm::Link {
 public:
  LazyLink(std::unique_ptr<comm::Link> link, bool stuck) : link_(std::move(link)), stuck_(stuck) {}
  WorkerId peer() const override { return link_->peer(); }
  comm::LinkStats stats() const override { return link_->stats(); }
  Status Send(const comm::FrameView& frame, TimePoint deadline) override {
    if (stuck_) {
      std::this_thread::sleep_for(deadline - SteadyClock().Now());
      return DeadlineExceeded("peer takes no frames");
    }
    pending_.push_back(
        {{frame.header.begin(), frame.header.end()}, {frame.payload.begin(), frame.payload.end()}});
    n_flushes_ = 0;
    return OkStatus();
  }
  Status Receive(comm::Frame* frame, TimePoint deadline) override {
    return link_->Receive(frame, deadline);
  }
  Result<bool> Flush() override {
    if (++n_flushes_ < 4 || pending_.empty()) return pending_.empty();
    const comm::Frame& frame = pending_.front();
    TC_RETURN_IF_ERROR(link_->Send({frame.header, frame.payload}, SteadyClock().Now() + kPatience));
    pending_.pop_front();
    return pending_.empty();
  }

 private:
  const std::unique_ptr<comm::Link> link_;
  const bool stuck_;
  std::deque<comm::Frame> pending_;
  int n_flushes_ = 0;
};

// Its link to the next stage is lazy, that to the previous one plain: as if of two transports.
class MixedPort final : public comm::DataPort {
 public:
  MixedPort(std::unique_ptr<comm::DataPort> port, bool stuck)
      : port_(std::move(port)), stuck_(stuck) {}
  comm::Transport transport() const override { return port_->transport(); }
  std::string address() const override { return port_->address(); }
  Result<std::unique_ptr<comm::Link>> Open(WorkerId peer, const std::string& address) override {
    TC_ASSIGN_OR_RETURN(auto link, port_->Open(peer, address));
    if (peer != kNext) return link;
    return std::unique_ptr<comm::Link>(std::make_unique<LazyLink>(std::move(link), stuck_));
  }

 private:
  const std::unique_ptr<comm::DataPort> port_;
  const bool stuck_;
};

class StepLoopTest : public ::testing::Test {
 protected:
  StepLoopTest()
      : file_(testing::TinyModel(Spec())),
        server_(mailboxes_.MakeServer()),
        mailbox_(std::move(mailboxes_.Connect(comm::PeerId{9})).value()),
        device_(kernels::MakeReferenceDevice()),
        previous_port_(hub_.MakePort(kPrevious)),
        next_port_(hub_.MakePort(kNext)) {}

  static testing::TinyModelSpec Spec() {
    testing::TinyModelSpec spec;
    spec.n_layer = 3;
    return spec;
  }

  // Stage `stage` of three with one layer each.
  Assignment AssignmentOf(int stage) const {
    Assignment assignment;
    assignment.self = kSelf;
    proto::AssignPlan& message = assignment.message;
    message.stage = stage;
    testing::SetModel(file_.path(), &message);
    message.plan.kv.n_pages = 8;
    for (int i = 0; i < 3; ++i) {
      const WorkerId lead{kSelf.value + static_cast<uint64_t>(i) - static_cast<uint64_t>(stage)};
      message.plan.stages.push_back({lead, {i, i + 1, i == 0, i == 2}});
    }
    if (stage > 0) message.previous_address = previous_port_->address();
    if (stage < 2) message.next_address = next_port_->address();
    return assignment;
  }

  void Start(Assignment assignment, bool stuck = false) {
    port_ = std::make_unique<MixedPort>(hub_.MakePort(kSelf), stuck);
    loop_ = std::make_unique<StepLoop>(
        StepContext{clock_, *mailbox_, {.zmq = port_.get()}, *device_, counters_},
        std::move(assignment), [this](const StepEnd& end) {
          EXPECT_TRUE(may_end_) << end.why;
          ended_.set_value(end);
        });
  }

  StepEnd AwaitEnd() {
    auto ended = ended_.get_future();
    if (ended.wait_for(kPatience) == std::future_status::ready) return ended.get();
    ADD_FAILURE() << "the loop goes on";
    return {};
  }

  bool AwaitReady() {
    while (true) {
      auto received = server_->Receive(clock_.Now() + kPatience);
      if (!received.ok() || !*received) return false;
      const auto message = proto::Decode((*received)->frame.header);
      if (message.ok() && std::holds_alternative<proto::Ready>(*message)) return true;
    }
  }

  // A worker that has joined, whose link is measured: its end of the probe.
  std::unique_ptr<LinkProber> EchoOf(const proto::ProbeLink& request, comm::DataPort& port,
                                     std::promise<void>* done) const {
    return std::make_unique<LinkProber>(ProbeContext{clock_, port, kJoined, {}}, request,
                                        [done] { done->set_value(); });
  }

  Duration Stop() {
    const TimePoint begin = clock_.Now();
    loop_.reset();
    return clock_.Now() - begin;
  }

  const SteadyClock clock_{};
  const TempFile file_;
  comm::LoopbackMailboxHub mailboxes_;
  const std::unique_ptr<comm::Mailbox> server_, mailbox_;
  const std::unique_ptr<kernels::Device> device_;
  StepCounters counters_;
  comm::LoopbackHub hub_;
  std::unique_ptr<comm::DataPort> previous_port_, next_port_;
  std::unique_ptr<comm::DataPort> port_;
  bool may_end_ = false;
  std::promise<StepEnd> ended_;
  std::unique_ptr<StepLoop> loop_;
};

TEST_F(StepLoopTest, ALostNeighbourIsNamedAndTheWeightsStay) {
  may_end_ = true;
  Start(AssignmentOf(1));
  ASSERT_TRUE(AwaitReady());
  previous_port_.reset();
  const StepEnd end = AwaitEnd();
  EXPECT_EQ(end.why.code(), StatusCode::kUnavailable);
  EXPECT_EQ(end.lost_peer, kPrevious);
  const HeldModel held = loop_->End();
  ASSERT_TRUE(held.model.has_value());
  EXPECT_EQ(held.model->config.n_layer, 3);
}

TEST_F(StepLoopTest, WhoCannotBeReachedIsNamedToo) {
  may_end_ = true;
  Assignment assignment = AssignmentOf(1);
  next_port_.reset();
  Start(std::move(assignment));
  EXPECT_EQ(AwaitEnd().lost_peer, kNext);
  EXPECT_TRUE(loop_->End().model.has_value());
}

TEST_F(StepLoopTest, TheFirstStageSeesItsLastActivationOff) {
  Start(AssignmentOf(0));
  ASSERT_TRUE(AwaitReady());
  auto link = next_port_->Open(kSelf, port_->address());
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(loop_->Submit(OneEntry(SeqId{1}, 0, {1, 2, 3}, true, 3)));
  comm::Frame frame;
  const Status received = (*link)->Receive(&frame, clock_.Now() + kPatience);
  ASSERT_TRUE(received.ok()) << received;
  EXPECT_EQ(frame.payload.size(), 3 * 64 * sizeof(float));
}

TEST_F(StepLoopTest, AMiddleStageDoesSoWhileItsPreviousIsSilent) {
  Start(AssignmentOf(1));
  ASSERT_TRUE(AwaitReady());
  auto from = previous_port_->Open(kSelf, port_->address());
  auto to = next_port_->Open(kSelf, port_->address());
  ASSERT_TRUE(from.ok() && to.ok());
  std::vector<std::byte> header;
  proto::Encode(OneEntry(SeqId{1}, 0, {1, 2, 3}, true, 3), &header);
  const std::vector<std::byte> activation(3 * 64 * sizeof(float));
  ASSERT_TRUE((*from)->Send({header, activation}, clock_.Now() + kPatience).ok());
  comm::Frame frame;
  const Status received = (*to)->Receive(&frame, clock_.Now() + kPatience);
  ASSERT_TRUE(received.ok()) << received;
  EXPECT_EQ(frame.payload.size(), activation.size());
}

// Its steps are done as if nobody had asked.
TEST_F(StepLoopTest, ALinkToAWorkerThatHasJoinedIsMeasuredBetweenSteps) {
  Start(AssignmentOf(0));
  ASSERT_TRUE(AwaitReady());
  const auto joined = hub_.MakePort(kJoined);
  auto next = next_port_->Open(kSelf, port_->address());
  ASSERT_TRUE(next.ok()) << next.status();
  proto::ProbeLink request{.round = 2,
                           .peer = kJoined,
                           .address = joined->address(),
                           .leads = true,
                           .budget_us = 120'000'000,  // samples are bounded too
                           .patience_us = 120'000'000};
  proto::ProbeLink echoed = request;
  echoed.peer = kSelf;
  echoed.address = port_->address();
  echoed.leads = false;
  std::promise<void> done;
  const auto echo = EchoOf(echoed, *joined, &done);
  proto::StepBatch batch = OneEntry(SeqId{1}, 0, {1, 2, 3}, true, 3);
  ASSERT_TRUE(loop_->Submit(batch));
  loop_->Probe(request);
  for (int64_t step = 2; step <= 20; ++step) {
    batch = OneEntry(SeqId{1}, step + 1, {4}, true, 3);
    batch.step = {static_cast<uint64_t>(step)};
    ASSERT_TRUE(loop_->Submit(batch));
  }
  const auto report = testing::AwaitMessage<proto::LinkReport>(*server_, kPatience);
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.round, 2u);
  EXPECT_EQ(report.peer, kJoined);
  EXPECT_GT(report.bytes_per_s, 0);
  done.get_future().wait();
  EXPECT_EQ(echo->Take()->error, "");
  for (int step = 1; step <= 20; ++step) {
    comm::Frame frame;
    const Status received = (*next)->Receive(&frame, clock_.Now() + kPatience);
    ASSERT_TRUE(received.ok()) << received;
  }
}

TEST_F(StepLoopTest, WhoHasJoinedAndDoesNotAnswerIsNotWaitedFor) {
  Start(AssignmentOf(0));
  ASSERT_TRUE(AwaitReady());
  const auto joined = hub_.MakePort(kJoined);
  loop_->Probe({.peer = kJoined,
                .address = joined->address(),
                .leads = true,
                .budget_us = 1000,
                .patience_us = 20'000'000});
  const auto report = testing::AwaitMessage<proto::LinkReport>(*server_, kPatience);
  EXPECT_EQ(report.error, "no answer in time");
  auto next = next_port_->Open(kSelf, port_->address());
  ASSERT_TRUE(loop_->Submit(OneEntry(SeqId{1}, 0, {1, 2, 3}, true, 3)));
  comm::Frame frame;
  EXPECT_TRUE((*next)->Receive(&frame, clock_.Now() + kPatience).ok());
}

// Frames of a probe that was given up lie on the link when a plan comes to use it.
TEST_F(StepLoopTest, WhatAProbeHasLeftOnALinkIsDropped) {
  Start(AssignmentOf(1));
  ASSERT_TRUE(AwaitReady());
  auto from = previous_port_->Open(kSelf, port_->address());
  ASSERT_TRUE(from.ok()) << from.status();
  const std::array<std::byte, 5> echo{std::byte{'e'}, std::byte{7}};  // of round 7
  ASSERT_TRUE(IsProbeFrame(echo));
  ASSERT_TRUE((*from)->Send({echo, {}}, clock_.Now() + kPatience).ok());
  std::vector<std::byte> header;
  proto::Encode(OneEntry(SeqId{1}, 0, {1, 2, 3}, true, 3), &header);
  const std::vector<std::byte> activation(3 * 64 * sizeof(float));
  ASSERT_TRUE((*from)->Send({header, activation}, clock_.Now() + kPatience).ok());
  auto to = next_port_->Open(kSelf, port_->address());
  comm::Frame frame;
  EXPECT_TRUE((*to)->Receive(&frame, clock_.Now() + kPatience).ok());
  EXPECT_EQ(counters_.stale_frames, 1u);
}

TEST_F(StepLoopTest, AStopEndsTheWaitForANextStageThatTakesNothing) {
  Start(AssignmentOf(0), /*stuck=*/true);
  ASSERT_TRUE(AwaitReady());
  ASSERT_TRUE(loop_->Submit(OneEntry(SeqId{1}, 0, {1, 2, 3}, true, 3)));
  while (counters_.steps_done == 0) std::this_thread::yield();
  EXPECT_LT(Stop(), kSoon);
}

TEST_F(StepLoopTest, AStopEndsALoadWhoseWeightsDoNotCome) {
  Assignment assignment = AssignmentOf(0);
  assignment.key = comm::ClusterKey::Generate();
  assignment.peer = 5;
  assignment.cache_dir = file_.path() + "-cache";
  comm::ZmqMailboxOptions options;
  options.key = assignment.key;
  options.endpoints = {"tcp://127.0.0.1:*"};
  const auto silent = comm::BindZmqMailbox(options);
  ASSERT_TRUE(silent.ok());
  assignment.message.weights_from = proto::WeightsFrom::kCoordinator;
  assignment.message.bulk_endpoint = (*silent)->endpoints().front();
  Start(std::move(assignment));
  ASSERT_TRUE((*silent)->Receive(clock_.Now() + kPatience).ok());  // it has asked, and waits
  EXPECT_LT(Stop(), kSoon);
  std::filesystem::remove_all(file_.path() + "-cache");
}

TEST_F(StepLoopTest, AStopEndsAFutileSearchForTheWeights) {
  Assignment assignment = AssignmentOf(0);
  assignment.peer = 5;
  assignment.cache_dir = file_.path() + "-cache";
  assignment.message.weights_from = proto::WeightsFrom::kCoordinator;
  assignment.message.bulk_endpoint = "tcp://127.0.0.1:1";
  Start(std::move(assignment));
  EXPECT_LT(Stop(), kSoon);
  std::filesystem::remove_all(file_.path() + "-cache");
}

TEST_F(StepLoopTest, AFileWithOtherWeightsIsRefused) {
  const Assignment assignment = AssignmentOf(0);
  testing::TinyModelSpec retrained = Spec();
  retrained.seed = 2;
  const TempFile other(testing::TinyModel(retrained));
  Assignment elsewhere = assignment;
  elsewhere.message.model_path = other.path();
  const std::atomic<bool> stop{false};
  EXPECT_TRUE(OpenAssignedModel(assignment, clock_, stop, IgnoreProgress).ok());
  const Status status = OpenAssignedModel(elsewhere, clock_, stop, IgnoreProgress).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("another model than the coordinator's"), std::string::npos);
}

}  // namespace
}  // namespace thermocline::worker
