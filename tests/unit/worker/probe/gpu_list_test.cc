#include "worker/probe/gpu_list.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace thermocline::worker {
namespace {

TEST(GpuList, SaysWhatTheLibraryTells) {
  for (int i = 0; i < 2; ++i) {  // it can be loaded again
    const auto gpus = ListGpus(TC_FAKE_NVML);
    ASSERT_THAT(gpus.status(), testing::IsOk());
    const GpuInfo first = {.name = "First GPU",
                           .pci_bus_id = "00000000:1B:00.0",
                           .memory_bytes = 80'000,
                           .free_bytes = 70'000,
                           .pcie_generation = 5,
                           .pcie_lanes = 0,
                           .n_nvlinks = 4};
    GpuInfo last = first;
    last.name = "Last GPU";
    last.pci_bus_id = "00000000:43:00.0";
    last.n_nvlinks = 0;
    EXPECT_EQ(*gpus, (std::vector<GpuInfo>{first, last}));
  }
}

TEST(GpuList, WithoutTheLibraryThereAreNone) {
  EXPECT_EQ(ListGpus("libthere-is-no-such.so.1").status().code(), StatusCode::kNotFound);
}

TEST(GpuList, AnotherLibraryIsNamedWithWhatItLacks) {
  const Status status = ListGpus("libdl.so.2").status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "NVML lacks nvmlInit_v2");
}

}  // namespace
}  // namespace thermocline::worker
