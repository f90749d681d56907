// Device links, by what every link must do and by what goes wrong; GPUs and NCCL are threads of
// this process.
#include "comm/device_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <functional>
#include <limits>
#include <thread>

#include "comm/data_ports.h"
#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/frames.h"
#include "tests/support/link_conformance.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::thermocline::testing::FakeGpuFaults;
using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::LinkCase;
using ::thermocline::testing::LinkConformanceCases;

constexpr Duration kPatience = std::chrono::seconds(20);
constexpr size_t kNever = std::numeric_limits<size_t>::max();

void SetFaults(const FakeGpuFaults& faults) { testing::tc_fake_gpu_set_faults(&faults); }

// A device link as a link of the host: payloads are copied to the GPU and from it.
class CopyingLink final : public Link {
 public:
  CopyingLink(DeviceLink& link, const Gpu& gpu)
      : link_(link),
        gpu_(gpu),
        stream_(std::move(gpu.MakeStream()).value()),
        out_(std::move(gpu.Allocate(kRoomBytes)).value()),
        in_(std::move(gpu.Allocate(kRoomBytes)).value()) {}

  WorkerId peer() const override { return link_.peer(); }
  LinkStats stats() const override { return link_.stats(); }
  Result<bool> Flush() override { return link_.Flush(); }

  Status Send(const FrameView& frame, TimePoint deadline) override {
    if (!CheckFrameLimits(frame).ok()) {  // refused unread
      return link_.Send(frame.header, frame.payload, stream_.get(), deadline);
    }
    TC_RETURN_IF_ERROR(
        gpu_.Copy(out_.get(), frame.payload.data(), frame.payload.size(), stream_.get()));
    TC_RETURN_IF_ERROR(link_.Await(stream_.get(), In(kPatience)));
    const std::span<const std::byte> payload(static_cast<std::byte*>(out_.get()),
                                             frame.payload.size());
    return link_.Send(frame.header, payload, stream_.get(), deadline);
  }

  Status Receive(Frame* frame, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(link_.Receive(&device_frame_, stream_.get(), deadline));
    return Fetch(frame);
  }
  Result<bool> TryReceive(Frame* frame) override {
    TC_ASSIGN_OR_RETURN(const bool arrived, link_.TryReceive(&device_frame_, stream_.get()));
    if (arrived) TC_RETURN_IF_ERROR(Fetch(frame));
    return arrived;
  }

 private:
  static constexpr size_t kRoomBytes = 8 << 20;

  Status Fetch(Frame* frame) {
    frame->header = device_frame_.header;
    frame->payload.resize(device_frame_.payload_bytes);
    TC_RETURN_IF_ERROR(
        gpu_.Copy(frame->payload.data(), in_.get(), frame->payload.size(), stream_.get()));
    return link_.Await(stream_.get(), In(kPatience));
  }

  DeviceLink& link_;
  const Gpu& gpu_;
  const Gpu::Stream stream_;
  const Gpu::Memory out_, in_;
  DeviceFrame device_frame_{.room = {static_cast<std::byte*>(in_.get()), kRoomBytes}, .header = {}};
};

// Two workers with a GPU each, joined by a device link.
class DeviceLinkTest : public ::testing::Test {
 protected:
  DeviceLinkTest() {
    SetFaults({});
    nccl_ = std::move(NcclLibrary::Load({.library = TC_FAKE_GPU})).value();
    for (uint64_t i : {0, 1}) {
      gpus_[i] = std::move(Gpu::Open(static_cast<int>(i), TC_FAKE_GPU)).value();
      ports_[i] = hub_.MakePort(WorkerId{i});
    }
    for (uint64_t i : {0, 1}) {
      hosts_[i] = std::move(ports_[i]->Open(WorkerId{1 - i}, ports_[1 - i]->address())).value();
    }
  }
  ~DeviceLinkTest() override {
    SetFaults({});
    for (auto& link : links_) link.reset();
    sent_.reset();
    EXPECT_EQ(testing::tc_fake_gpu_live_comms(), 0) << "a communicator was forgotten";
    for (auto& gpu : gpus_) gpu.reset();
    EXPECT_EQ(testing::tc_fake_gpu_live_objects(), 0);
  }

  void OnBoth(const std::function<void(size_t)>& work) {
    std::thread other([&] { work(1); });
    work(0);
    other.join();
  }

  void Join(std::optional<size_t> nccl_from_bytes, bool other_has_nccl = true) {
    OnBoth([&](size_t i) {
      const bool has_nccl = i == 0 || other_has_nccl;
      auto link =
          MakeDeviceLink(*hosts_[i], *gpus_[i], has_nccl ? nccl_.get() : nullptr,
                         {.leads = i == 0, .nccl_from_bytes = nccl_from_bytes}, In(kPatience));
      ASSERT_THAT(link.status(), IsOk());
      links_[i] = std::move(link).value();
    });
  }

  Status SendSome(size_t n_bytes, GpuStream stream, TimePoint deadline) {
    TC_ASSIGN_OR_RETURN(sent_, gpus_[0]->Allocate(n_bytes));
    const std::span<const std::byte> payload(static_cast<std::byte*>(sent_.get()), n_bytes);
    return links_[0]->Send({}, payload, stream, deadline);
  }

  LoopbackHub hub_;
  std::unique_ptr<NcclLibrary> nccl_;
  std::unique_ptr<Gpu> gpus_[2];
  std::unique_ptr<DataPort> ports_[2];
  std::unique_ptr<Link> hosts_[2];
  std::unique_ptr<DeviceLink> links_[2];
  Gpu::Memory sent_;  // by SendSome; memory waits for all work when it goes
};

struct Implementation {
  const char* name;
  size_t nccl_from_bytes;
  int window;
};
constexpr Implementation kImplementations[] = {{"staged", kNever, kLinkWindowFrames},
                                               {"nccl", 1, kDeviceLinkSlots},
                                               {"mixed", 5000, kDeviceLinkSlots}};

class DeviceLinkConformance
    : public DeviceLinkTest,
      public ::testing::WithParamInterface<std::tuple<Implementation, LinkCase>> {};

TEST_P(DeviceLinkConformance, Case) {
  const Implementation& implementation = std::get<0>(GetParam());
  const LinkCase& link_case = std::get<1>(GetParam());
  Join(implementation.nccl_from_bytes);
  std::barrier<> both(2);
  OnBoth([&](size_t i) {
    CopyingLink link(*links_[i], *gpus_[i]);
    link_case.run(
        {static_cast<int>(i), link, [&] { both.arrive_and_wait(); }, implementation.window});
  });
}

INSTANTIATE_TEST_SUITE_P(All, DeviceLinkConformance,
                         ::testing::Combine(::testing::ValuesIn(kImplementations),
                                            ::testing::ValuesIn(LinkConformanceCases())),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::string(std::get<1>(info.param).name);
                         });

TEST_F(DeviceLinkTest, WhatIsMeasuredCountsAtBothEnds) {
  Join(std::nullopt);
  EXPECT_EQ(links_[0]->nccl_from_bytes(), links_[1]->nccl_from_bytes());
}

TEST_F(DeviceLinkTest, WithoutNcclAtOneEndAllIsStaged) {
  Join(1, /*other_has_nccl=*/false);
  for (const auto& link : links_) EXPECT_EQ(link->nccl_from_bytes(), kNever);
  const Gpu::Stream stream = gpus_[0]->MakeStream().value();
  EXPECT_THAT(SendSome(100, stream.get(), In(kPatience)), IsOk());
  Frame frame;
  ASSERT_THAT(hosts_[1]->Receive(&frame, In(kPatience)), IsOk());
  EXPECT_EQ(frame.payload.size(), 100u);
}

// Later work on the stream may write to a payload at once: what was sent is what it was then.
TEST_F(DeviceLinkTest, APayloadMayBeWrittenAgainByLaterWork) {
  Join(1);
  OnBoth([&](size_t i) {
    const Gpu::Stream stream = gpus_[i]->MakeStream().value();
    const Gpu::Memory memory = gpus_[i]->Allocate(8).value();
    const std::span<std::byte> payload(static_cast<std::byte*>(memory.get()), 8);
    for (uint64_t round = 0; round < 50; ++round) {
      uint64_t value = i == 0 ? round : ~uint64_t{0};
      if (i == 0) {
        ASSERT_THAT(gpus_[i]->Copy(memory.get(), &value, 8, stream.get()), IsOk());
        ASSERT_THAT(links_[i]->Send({}, payload, stream.get(), In(kPatience)), IsOk());
        ASSERT_THAT(links_[i]->Await(stream.get(), In(kPatience)), IsOk());  // `value` ends here
      } else {
        DeviceFrame frame{.room = payload, .header = {}};
        ASSERT_THAT(links_[i]->Receive(&frame, stream.get(), In(kPatience)), IsOk());
        ASSERT_THAT(gpus_[i]->Copy(&value, memory.get(), 8, stream.get()), IsOk());
        ASSERT_THAT(links_[i]->Await(stream.get(), In(kPatience)), IsOk());
        EXPECT_EQ(value, round);
      }
    }
  });
}

TEST_F(DeviceLinkTest, APeerThatDoesNotComeEndsTheMeetingByTheDeadline) {
  const auto link =
      MakeDeviceLink(*hosts_[0], *gpus_[0], nccl_.get(), {.leads = true}, In(milliseconds(20)));
  EXPECT_EQ(link.status().code(), StatusCode::kDeadlineExceeded);
}

TEST_F(DeviceLinkTest, AnotherKindOfFrameIsNoMeeting) {
  ASSERT_THAT(hosts_[1]->Send({}, In(kPatience)), IsOk());
  const auto link =
      MakeDeviceLink(*hosts_[0], *gpus_[0], nccl_.get(), {.leads = true}, In(kPatience));
  EXPECT_EQ(link.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(link.status().message(), HasSubstr("not a frame of a device link: peer=1"));
}

TEST_F(DeviceLinkTest, APayloadWithoutRoomIsNamed) {
  Join(kNever);
  const Gpu::Stream stream = gpus_[0]->MakeStream().value();
  ASSERT_THAT(SendSome(100, stream.get(), In(kPatience)), IsOk());
  DeviceFrame frame;
  EXPECT_THAT(links_[1]->Receive(&frame, stream.get(), In(kPatience)).message(),
              HasSubstr("payload has no room: peer=0 bytes=100 room=0"));
}

// A frame that tells of a payload by NCCL which never comes: the stream comes free all the same.
TEST_F(DeviceLinkTest, APayloadThatNeverComesIsGivenUpByTheDeadline) {
  Join(1);
  SetFaults({.work_hangs = true});
  const Gpu::Stream send = gpus_[0]->MakeStream().value(), take = gpus_[1]->MakeStream().value();
  ASSERT_THAT(SendSome(100, send.get(), In(kPatience)), IsOk());
  const Gpu::Memory memory = gpus_[1]->Allocate(100).value();
  DeviceFrame frame{.room = {static_cast<std::byte*>(memory.get()), 100}, .header = {}};
  ASSERT_THAT(links_[1]->Receive(&frame, take.get(), In(kPatience)), IsOk());
  const Status status = links_[1]->Await(take.get(), In(milliseconds(20)));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("peer=0 gpu=1"));
  EXPECT_EQ(links_[1]->Await(take.get(), In(kPatience)).message(), status.message());
}

TEST_F(DeviceLinkTest, APeerThatIsLostEndsTheOtherEnd) {
  Join(1);
  SetFaults({.async_error = kNcclRemoteError});
  EXPECT_EQ(links_[0]->Flush().status().code(), StatusCode::kUnavailable);
  const Gpu::Stream stream = gpus_[0]->MakeStream().value();
  EXPECT_EQ(links_[0]->Await(stream.get(), In(kPatience)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(SendSome(100, stream.get(), In(kPatience)).code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace thermocline::comm
