// Cards that fail, hang, or cannot run the program.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/emulator.h"
#include "kernels/cuda/fitness.h"
#include "kernels/cuda/health.h"

namespace thermocline::kernels::cuda {
namespace {

constexpr size_t kFloats = 64;
constexpr uint64_t kBytes = kFloats * sizeof(float);
// More than all of DoSomeWork.
constexpr uint64_t kPieces = 12;

std::unique_ptr<Device> Faulty(uint64_t after, Fate fate) {
  EmulatorOptions options;
  options.fate = [=](uint64_t n) { return n >= after ? fate : Fate::kIsDone; };
  options.patience = Duration{0};
  return MakeEmulatedDevice(options).value();
}

// Copies and launches; what they give is of no interest.
Status DoSomeWork(Device& device) {
  std::vector<float> host(kFloats, 1);
  auto* const bytes = reinterpret_cast<std::byte*>(host.data());
  TC_ASSIGN_OR_RETURN(const Buffer memory, device.Allocate(kBytes));
  const TensorView x = TensorView::F32(reinterpret_cast<float*>(memory.data()), 1, kFloats);
  device.CopyToDevice(bytes, memory.data(), kBytes);
  for (int i = 0; i < 4; ++i) device.ops().Add(x, x, x);
  device.CopyToHost(memory.data(), bytes, kBytes);
  return device.Synchronize();
}

bool Says(const Status& status, const char* text) {
  return status.message().find(text) != std::string::npos;
}

// Whichever piece of work it is.
TEST(FaultyDevice, AFailureIsNamedByEveryWaitFromThenOn) {
  for (uint64_t after = 0; after < kPieces; ++after) {
    const auto device = Faulty(after, Fate::kFails);
    Status first;
    for (int i = 0; i < 4 && first.ok(); ++i) first = DoSomeWork(*device);
    EXPECT_EQ(first.code(), StatusCode::kUnavailable) << after << ": " << first;
    EXPECT_TRUE(Says(first, "cuda:0 emulated: the work failed")) << after << ": " << first;
    EXPECT_EQ(device->Synchronize().message(), first.message()) << after;
    EXPECT_TRUE(device->IsDone(device->Mark())) << "nothing is to come";
  }
}

TEST(FaultyDevice, MemoryIsRefusedForTheReasonThatItIs) {
  const auto device = Faulty(0, Fate::kFails);
  EXPECT_FALSE(device->Synchronize().ok());
  for (const Status& status : {device->Allocate(kBytes).status(), DoSomeWork(*device)}) {
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_TRUE(Says(status, "cuda:0 emulated: the work failed")) << status;
  }
}

TEST(FaultyDevice, ThatRefusesFromTheBeginningIsNotTakenForFull) {
  const Status refused = MakeEmulatedDevice({.error = Unavailable("used by another")}).status();
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_EQ(refused.message(), "cuda:0 emulated: used by another");
  const Status full = MakeEmulatedDevice({.memory_bytes = 1 << 20}).status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(Says(full, "no memory to begin with")) << full;
}

TEST(FaultyDevice, WorkThatHangsIsNotWaitedForTwice) {
  for (uint64_t after = 0; after < kPieces; ++after) {
    const auto device = Faulty(after, Fate::kHangs);
    Status first;
    for (int i = 0; i < 4 && first.ok(); ++i) first = DoSomeWork(*device);
    EXPECT_EQ(first.code(), StatusCode::kUnavailable) << after << ": " << first;
    EXPECT_TRUE(Says(first, "cuda:0 emulated: the GPU does not answer")) << after << ": " << first;
    EXPECT_EQ(DoSomeWork(*device).message(), first.message()) << after;
  }
}

// Only whoever waits is told: looks have no patience.
TEST(FaultyDevice, WorkThatHangsIsNeverDone) {
  const auto device = Faulty(1, Fate::kHangs);
  const auto memory = device->Allocate(kBytes);
  const WorkMark mark = device->Mark();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(device->IsDone(mark));
  EXPECT_FALSE(device->Wait(mark).ok());
}

TEST(Health, TheFirstErrorStays) {
  Health health(Duration{0});
  health.Note(OkStatus());
  EXPECT_TRUE(health.error().ok());
  health.Await([] { return true; });
  EXPECT_FALSE(health.hangs());
  health.Note(Unavailable("one"));
  health.Note(Unavailable("two"));
  health.Await([] { return false; });
  EXPECT_TRUE(health.hangs());
  EXPECT_EQ(health.error().message(), "one");
  health.Await([]() -> bool {
    ADD_FAILURE() << "nobody looks again";
    return true;
  });
}

TEST(Fitness, ADriverIsAsNewAsTheRuntimesMajorVersion) {
  for (const CudaVersions versions : {CudaVersions{13000, 13000}, CudaVersions{13000, 13020},
                                      CudaVersions{12000, 12080}, CudaVersions{13010, 12080}}) {
    EXPECT_TRUE(CheckVersions(versions, 0).ok());
  }
  const Status old = CheckVersions({.driver = 12020, .runtime = 13000}, 3);
  EXPECT_EQ(old.code(), StatusCode::kUnavailable);
  EXPECT_EQ(old.message(),
            "the CUDA driver is older than the runtime of this program: device=cuda:3 driver=12.2 "
            "runtime=13.0");
  EXPECT_FALSE(Says(CheckVersions({.driver = 12020, .runtime = 13000}, std::nullopt), "device="));
  EXPECT_TRUE(Says(CheckVersions({.driver = 0, .runtime = 13000}, 0), "no CUDA driver"));
}

TEST(Fitness, ACardWithoutKernelsIsNamed) {
  const auto device = MakeEmulatedDevice({.compute_capability = 61, .least_capability = 75});
  EXPECT_EQ(device.status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(device.status().message(),
            "this program has no kernels for a GPU that is so old: cuda:0 emulated "
            "capability=6.1 least=7.5");
  EXPECT_TRUE(MakeEmulatedDevice({.compute_capability = 120, .least_capability = 75}).ok());
  EXPECT_TRUE(MakeEmulatedDevice({.compute_capability = 75, .least_capability = 75}).ok());
  EXPECT_TRUE(CheckCapability({.compute_capability = 50, .least_capability = 0}).ok()) << "unknown";
}

}  // namespace
}  // namespace thermocline::kernels::cuda
