// Pipes between two GPUs, and what goes wrong with them; GPUs and NCCL are threads of this process.
#include "comm/nccl_pipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using std::chrono::milliseconds;
using ::thermocline::testing::FakeGpuFaults;
using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;

void SetFaults(const FakeGpuFaults& faults) { testing::tc_fake_gpu_set_faults(&faults); }

// Two ends with a GPU each.
class NcclPipe : public ::testing::Test {
 protected:
  NcclPipe() {
    SetFaults({});
    nccl_ = std::move(NcclLibrary::Load({.library = TC_FAKE_GPU})).value();
    id_ = nccl_->MakeId().value();
    for (size_t i : {0, 1}) {
      gpus_[i] = std::move(Gpu::Open(static_cast<int>(i), TC_FAKE_GPU)).value();
      streams_[i] = std::move(gpus_[i]->MakeStream()).value();
      memory_[i] = std::move(gpus_[i]->Allocate(kBytes)).value();
    }
  }
  ~NcclPipe() override {
    SetFaults({});
    sender_.reset();
    receiver_.reset();
    EXPECT_EQ(testing::tc_fake_gpu_live_comms(), 0) << "a communicator was forgotten";
    for (size_t i : {0, 1}) {
      streams_[i].reset();
      memory_[i].reset();
      gpus_[i].reset();
    }
    EXPECT_EQ(testing::tc_fake_gpu_live_objects(), 0);
  }

  static constexpr size_t kBytes = 8;

  Status JoinSender(TimePoint deadline) {
    TC_ASSIGN_OR_RETURN(sender_,
                        NcclSender::Join(*nccl_, *gpus_[0], {id_, &stop_}, kBytes, deadline));
    return OkStatus();
  }
  Status JoinReceiver(TimePoint deadline) {
    TC_ASSIGN_OR_RETURN(receiver_, NcclReceiver::Join(*nccl_, *gpus_[1], {id_, &stop_}, deadline));
    return OkStatus();
  }
  static void OnBoth(const std::function<void()>& sends, const std::function<void()>& receives) {
    std::thread other(receives);
    sends();
    other.join();
  }
  void Join() {
    OnBoth([&] { ASSERT_THAT(JoinSender(In(kPatience)), IsOk()); },
           [&] { ASSERT_THAT(JoinReceiver(In(kPatience)), IsOk()); });
  }
  std::span<std::byte> Bytes(size_t i) const {
    return {static_cast<std::byte*>(memory_[i].get()), kBytes};
  }
  void AwaitStream(size_t i) const {
    const Gpu::Event passed = std::move(gpus_[i]->MakeEvent()).value();
    ASSERT_THAT(gpus_[i]->Record(passed, streams_[i].get()), IsOk());
    ASSERT_THAT(gpus_[i]->Await(passed, In(kPatience)), IsOk());
  }
  void AwaitSlot() const {
    while (true) {
      const auto has_slot = sender_->HasSlot();
      ASSERT_THAT(has_slot.status(), IsOk());
      if (*has_slot) return;
      std::this_thread::yield();
    }
  }
  Status SendIt() { return sender_->Send(Bytes(0), streams_[0].get(), In(kPatience)); }

  std::unique_ptr<NcclLibrary> nccl_;
  std::string id_;
  std::atomic<bool> stop_ = false;
  std::unique_ptr<Gpu> gpus_[2];
  Gpu::Stream streams_[2];
  Gpu::Memory memory_[2];
  std::unique_ptr<NcclSender> sender_;
  std::unique_ptr<NcclReceiver> receiver_;
};

// Later work on the stream may write to a payload at once: what was sent is what it was then.
TEST_F(NcclPipe, PayloadsComeInOrderAndAsTheyWere) {
  Join();
  constexpr uint64_t kRounds = 50;
  OnBoth(
      [&] {
        for (uint64_t round = 0; round < kRounds; ++round) {
          AwaitSlot();
          ASSERT_THAT(gpus_[0]->Copy(memory_[0].get(), &round, kBytes, streams_[0].get()), IsOk());
          ASSERT_THAT(SendIt(), IsOk());
          AwaitStream(0);  // `round` changes
        }
      },
      [&] {
        for (uint64_t round = 0; round < kRounds; ++round) {
          uint64_t value = ~uint64_t{0};
          ASSERT_THAT(receiver_->Receive(Bytes(1), streams_[1].get(), In(kPatience)), IsOk());
          ASSERT_THAT(gpus_[1]->Copy(&value, memory_[1].get(), kBytes, streams_[1].get()), IsOk());
          AwaitStream(1);
          EXPECT_EQ(value, round);
        }
      });
}

TEST_F(NcclPipe, SlotsAreTakenUntilTheyAreReceived) {
  Join();
  OnBoth(
      [&] { ASSERT_THAT(SendIt(), IsOk()); },
      [&] { ASSERT_THAT(receiver_->Receive(Bytes(1), streams_[1].get(), In(kPatience)), IsOk()); });
  for (int i = 0; i < kPipeSlots; ++i) {
    AwaitSlot();
    ASSERT_THAT(SendIt(), IsOk());
  }
  EXPECT_FALSE(*sender_->HasSlot());
  ASSERT_THAT(receiver_->Receive(Bytes(1), streams_[1].get(), In(kPatience)), IsOk());
  AwaitSlot();
  for (int i = 1; i < kPipeSlots; ++i) {
    ASSERT_THAT(receiver_->Receive(Bytes(1), streams_[1].get(), In(kPatience)), IsOk());
  }
  AwaitStream(1);
}

TEST_F(NcclPipe, AnEndThatDoesNotComeEndsTheMeetingByTheDeadlineOrAStop) {
  EXPECT_EQ(JoinSender(In(milliseconds(20))).code(), StatusCode::kDeadlineExceeded);
  id_ = nccl_->MakeId().value();
  stop_ = true;
  EXPECT_EQ(JoinReceiver(In(kPatience)).code(), StatusCode::kAborted);
}

// The stream comes free of a payload that never comes.
TEST_F(NcclPipe, WhatIsGivenUpFreesItsStream) {
  Join();
  OnBoth(
      [&] { ASSERT_THAT(SendIt(), IsOk()); },
      [&] { ASSERT_THAT(receiver_->Receive(Bytes(1), streams_[1].get(), In(kPatience)), IsOk()); });
  ASSERT_THAT(receiver_->Receive(Bytes(1), streams_[1].get(), In(kPatience)), IsOk());
  EXPECT_EQ(receiver_->Abort(Aborted("enough")).code(), StatusCode::kAborted);
  AwaitStream(1);
  EXPECT_EQ(sender_->Check().code(), StatusCode::kUnavailable) << "the other end hears of it";
}

TEST_F(NcclPipe, APeerThatIsLostEndsTheOtherEnd) {
  Join();
  SetFaults({.async_error = kNcclRemoteError});
  EXPECT_EQ(sender_->HasSlot().status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(SendIt().code(), StatusCode::kUnavailable);
  EXPECT_EQ(receiver_->Check().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace thermocline::comm
