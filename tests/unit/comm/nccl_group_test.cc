// What goes wrong with NCCL and GPUs, each with clear words; by a library that stands for both.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "comm/group.h"
#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/frames.h"
#include "tests/support/nccl_rejoin.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::thermocline::testing::FakeGpuFaults;
using ::thermocline::testing::In;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::kPatience;

void SetFaults(const FakeGpuFaults& faults) { testing::tc_fake_gpu_set_faults(&faults); }

class NcclGroupTest : public ::testing::Test {
 protected:
  NcclGroupTest() {
    SetFaults({});
    nccl_ = std::move(NcclLibrary::Load({.library = TC_FAKE_GPU})).value();
    for (int i = 0; i < 2; ++i) gpus_[i] = std::move(Gpu::Open(i, TC_FAKE_GPU)).value();
    n_aborted_ = testing::tc_fake_gpu_aborted_comms();
  }
  ~NcclGroupTest() override {
    SetFaults({});
    EXPECT_EQ(testing::tc_fake_gpu_live_comms(), 0) << "a communicator was forgotten";
    for (auto& gpu : gpus_) gpu.reset();
    EXPECT_EQ(testing::tc_fake_gpu_live_objects(), 0);
  }

  Result<std::unique_ptr<Group>> Join(int rank, const std::string& id,
                                      Duration patience = kPatience) {
    return MakeNcclGroup(*nccl_, *gpus_[rank], {id, rank, 2}, In(patience));
  }
  // Both members, which must meet.
  std::pair<std::unique_ptr<Group>, std::unique_ptr<Group>> Both() {
    const std::string id = nccl_->MakeId().value();
    std::unique_ptr<Group> other;
    std::thread thread([&] { other = std::move(Join(1, id)).value(); });
    std::unique_ptr<Group> lead = std::move(Join(0, id)).value();
    thread.join();
    return {std::move(lead), std::move(other)};
  }
  int NewlyAborted() const { return testing::tc_fake_gpu_aborted_comms() - n_aborted_; }

  std::unique_ptr<NcclLibrary> nccl_;
  std::unique_ptr<Gpu> gpus_[2];
  int n_aborted_ = 0;
};

TEST_F(NcclGroupTest, ALibraryThatIsNotThereIsNamedWithTheCure) {
  const Status status = NcclLibrary::Load({.library = "libthere-is-no-such.so.2"}).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("no NCCL: libthere-is-no-such.so.2"));
  EXPECT_THAT(status.message(), HasSubstr("install it"));
}

TEST_F(NcclGroupTest, AnotherLibraryIsNamedWithWhatItLacks) {
  EXPECT_EQ(NcclLibrary::Load({.library = "libdl.so.2"}).status().message(),
            "NCCL lacks ncclGetVersion: install NCCL 2.14.0 or later");
}

TEST_F(NcclGroupTest, AnOldVersionIsNamedWithTheCure) {
  SetFaults({.nccl_version = 21399});
  EXPECT_EQ(NcclLibrary::Load({.library = TC_FAKE_GPU}).status().message(),
            "NCCL is too old: install 2.14.0 or later: version=2.13.99");
  SetFaults({.nccl_version = 2804});
  EXPECT_THAT(NcclLibrary::Load({.library = TC_FAKE_GPU}).status().message(),
              HasSubstr("version=2.8.4"));
  EXPECT_EQ(nccl_->version(), "2.28.9");
}

TEST_F(NcclGroupTest, ADriverThatIsNotThereIsNamed) {
  EXPECT_THAT(Gpu::Open(0, "libthere-is-no-such.so.1").status().message(),
              HasSubstr("no GPU driver: libthere-is-no-such.so.1"));
  EXPECT_EQ(Gpu::Open(0, "libdl.so.2").status().message(), "the GPU driver lacks cuInit");
  EXPECT_EQ(Gpu::Open(9, TC_FAKE_GPU).status().message(), "no such GPU: gpu=9 gpus=4");
  EXPECT_EQ(Gpu::Open(-1, TC_FAKE_GPU).status().code(), StatusCode::kNotFound);
}

TEST_F(NcclGroupTest, AFailedCopyIsNamedWithTheGpu) {
  SetFaults({.driver_error = 719});
  const Gpu::Stream stream = gpus_[1]->MakeStream().value();
  char a = 0, b = 0;
  const Status status = gpus_[1]->Copy(&a, &b, 1, stream.get());
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_EQ(status.message(), "cannot copy: CUDA_ERROR_LAUNCH_FAILED gpu=1 code=719");
}

TEST_F(NcclGroupTest, NoPlaceToMeetIsRefused) {
  EXPECT_EQ(Join(0, "short").status().code(), StatusCode::kInvalidArgument);
  const std::string id = nccl_->MakeId().value();
  EXPECT_EQ(id.size(), kNcclIdBytes);
  EXPECT_EQ(MakeNcclGroup(*nccl_, *gpus_[0], {id, 2, 2}, In(kPatience)).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(NcclGroupTest, WhoeverWaitsForMembersInVainStopsByTheDeadline) {
  const Status status = Join(0, nccl_->MakeId().value(), milliseconds(20)).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(), "NCCL: GPUs do not meet: rank=0 ranks=2 gpu=0: not in time");
  EXPECT_EQ(NewlyAborted(), 1);
}

TEST_F(NcclGroupTest, AMemberThatDiesWhileTheyMeetEndsTheOthers) {
  SetFaults({.nobody_comes = true, .init_error = kNcclRemoteError});
  const Status status = Join(0, nccl_->MakeId().value()).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("remote process exited (the last word) code=6"));
  EXPECT_EQ(NewlyAborted(), 1);
}

TEST_F(NcclGroupTest, APlaceThatIsTakenIsAMistakeInWords) {
  const std::string id = nccl_->MakeId().value();
  (void)Join(0, id, milliseconds(1));
  const Status status = Join(0, id).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("NCCL: GPUs do not meet: rank=0 ranks=2 gpu=0: "));
}

TEST_F(NcclGroupTest, WorkThatHangsIsAbortedByTheDeadline) {
  auto [lead, other] = Both();
  SetFaults({.work_hangs = true});
  const Gpu::Stream stream = gpus_[0]->MakeStream().value();
  const Gpu::Memory memory = gpus_[0]->Allocate(8).value();
  const std::span<double> data(static_cast<double*>(memory.get()), 1);
  ASSERT_THAT(lead->Sum(data, stream.get(), In(kPatience)), IsOk());
  const Status status = lead->Await(stream.get(), In(milliseconds(20)));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(NewlyAborted(), 1);
  EXPECT_EQ(lead->Broadcast(std::as_writable_bytes(data), stream.get(), In(kPatience)).message(),
            status.message());
  other.reset();
}

TEST_F(NcclGroupTest, AnErrorInTheBackgroundEndsTheWait) {
  auto [lead, other] = Both();
  const Gpu::Stream stream = gpus_[0]->MakeStream().value();
  const Gpu::Memory memory = gpus_[0]->Allocate(8).value();
  const std::span<double> data(static_cast<double*>(memory.get()), 1);
  ASSERT_THAT(lead->Sum(data, stream.get(), In(kPatience)), IsOk());
  SetFaults({.async_error = kNcclRemoteError});
  const Status status = lead->Await(stream.get(), In(kPatience));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("a member or its GPU is lost: remote process exited"));
  EXPECT_EQ(NewlyAborted(), 1);
}

// A member that gives up ends the others, and all can meet elsewhere for the next epoch.
TEST_F(NcclGroupTest, AfterALossTheMembersMeetAgain) {
  auto [lead, other] = Both();
  const Gpu::Stream stream = gpus_[0]->MakeStream().value();
  const Gpu::Memory memory = gpus_[0]->Allocate(8).value();
  const std::span<double> data(static_cast<double*>(memory.get()), 1);
  ASSERT_THAT(lead->Sum(data, stream.get(), In(kPatience)), IsOk());
  SetFaults({.work_hangs = true});
  const Gpu::Stream other_stream = gpus_[1]->MakeStream().value();
  EXPECT_EQ(other->Sum(data, other_stream.get(), In(kPatience)).code(), StatusCode::kOk);
  EXPECT_FALSE(other->Await(other_stream.get(), In(milliseconds(5))).ok());
  SetFaults({});
  EXPECT_EQ(lead->Await(stream.get(), In(kPatience)).code(), StatusCode::kUnavailable);
  lead.reset();
  other.reset();
  auto again = Both();
  std::thread member([&] {
    EXPECT_THAT(
        again.second->Broadcast(std::as_writable_bytes(data), other_stream.get(), In(kPatience)),
        IsOk());
    EXPECT_THAT(again.second->Await(other_stream.get(), In(kPatience)), IsOk());
  });
  EXPECT_THAT(again.first->Broadcast(std::as_writable_bytes(data), stream.get(), In(kPatience)),
              IsOk());
  EXPECT_THAT(again.first->Await(stream.get(), In(kPatience)), IsOk());
  member.join();
}

// The same as the real one does where there is a GPU.
TEST_F(NcclGroupTest, AGroupOfOneThatWasAbortedMeetsElsewhere) {
  testing::ExpectRejoinsAfterAborts(*nccl_, *gpus_[0],
                                    [](bool holds) { SetFaults({.work_hangs = holds}); });
  EXPECT_EQ(NewlyAborted(), testing::kRejoins);
}

// Sums inside switches have no order that is promised.
TEST_F(NcclGroupTest, RingsAreChosenUnlessTheUserChose) {
  unsetenv("NCCL_ALGO");
  (void)NcclLibrary::Load({.library = TC_FAKE_GPU});
  EXPECT_STREQ(getenv("NCCL_ALGO"), "Ring");
  setenv("NCCL_ALGO", "Tree", 1);
  (void)NcclLibrary::Load({.library = TC_FAKE_GPU});
  EXPECT_STREQ(getenv("NCCL_ALGO"), "Tree");
  setenv("NCCL_ALGO", "Ring", 1);
}

// NCCL's wires are not guarded: they leave the host only where members are elsewhere.
TEST_F(NcclGroupTest, MembersOfOneHostMeetOnItsLoopback) {
  unsetenv("NCCL_SOCKET_IFNAME");
  (void)NcclLibrary::Load({.library = TC_FAKE_GPU});
  EXPECT_STREQ(getenv("NCCL_SOCKET_IFNAME"), "lo");
  unsetenv("NCCL_SOCKET_IFNAME");
  (void)NcclLibrary::Load({.library = TC_FAKE_GPU, .one_host = false});
  EXPECT_EQ(getenv("NCCL_SOCKET_IFNAME"), nullptr);
}

}  // namespace
}  // namespace thermocline::comm
