#include "worker/probe/copy_probe.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/apart_device.h"
#include "worker/profiler.h"

namespace thermocline::worker {
namespace {

using placement::Figure;
using placement::GpuInfo;
using placement::Origin;

TEST(CopyProbe, MeasuresBothWaysAndGivesItsMemoryBack) {
  const auto device = testing::MakeApartDevice({.memory_bytes = 64 << 20});
  const auto copies = MeasureCopies(*device, Duration{1});
  ASSERT_TRUE(copies.ok()) << copies.status();
  for (const double figure :
       {copies->upload_bytes_per_s, copies->download_bytes_per_s, copies->copy_s}) {
    EXPECT_GT(figure, 0);
    EXPECT_TRUE(std::isfinite(figure));
  }
  EXPECT_EQ(device->memory().free_bytes, device->memory().total_bytes);
}

TEST(CopyProbe, ADeviceThatIsFullOrLostIsAnError) {
  const auto full = testing::MakeApartDevice({.memory_bytes = 1 << 20});
  EXPECT_EQ(MeasureCopies(*full, Duration{1}).status().code(), StatusCode::kResourceExhausted);
  const auto lost = testing::MakeApartDevice({.lost_after = 3});
  EXPECT_EQ(MeasureCopies(*lost, Duration{1}).status().code(), StatusCode::kUnavailable);
}

// The library that stands for the driver's is found by its name once it is loaded.
TEST(CopyProbe, AWorkerPutsDownTheCopiesOfItsOwnCard) {
  void* const library = dlopen(TC_FAKE_NVML, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto device = testing::MakeApartDevice({.memory_bytes = 64 << 20});
  const auto profile = MeasureWorker(
      *device,
      {.n_threads = 1, .memory_bytes = 1 << 20, .pci_bus_id = "0000:43:00.0", .time = Duration{1}});
  dlclose(library);
  ASSERT_TRUE(profile.ok()) << profile.status();
  ASSERT_EQ(profile->gpus.size(), 3u);
  ASSERT_EQ(profile->gpu, 1);
  const GpuInfo &own = profile->gpus[1], &other = profile->gpus[0];
  EXPECT_EQ(own.read_bytes_per_s, profile->read_bytes_per_s);
  for (const Figure& figure : {own.upload_bytes_per_s, own.download_bytes_per_s, own.copy_s}) {
    EXPECT_EQ(figure.origin, Origin::kMeasured);
    EXPECT_GT(figure.value, 0);
  }
  for (const Figure& figure :
       {other.upload_bytes_per_s, other.download_bytes_per_s, other.copy_s}) {
    EXPECT_FALSE(figure.known());
  }
}

}  // namespace
}  // namespace thermocline::worker
