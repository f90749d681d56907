#include "worker/probe/gpu_list.h"

#include <gtest/gtest.h>

#include "tests/support/apart_device.h"
#include "tests/support/status_matchers.h"

namespace thermocline::worker {
namespace {

using placement::GpuInfo;
using placement::GpuPath;

GpuInfo First() {
  return {.name = "First GPU",
          .pci_bus_id = "00000000:1B:00.0",
          .compute_capability = 90,
          .memory_bytes = 80'000,
          .free_bytes = 70'000,
          .pcie_generation = 5,
          .pcie_lanes = 16,
          .n_nvlinks = 6,
          .nvlink_generation = 4,
          .numa_node = 0,
          .cpus = "0-3,64",
          .peers = {{.gpu = 1, .path = GpuPath::kSystem, .n_nvlinks = 5},
                    {.gpu = 2, .path = GpuPath::kPcieSwitch}}};
}

GpuInfo Last() {
  GpuInfo gpu = First();
  gpu.name = "Last GPU";
  gpu.pci_bus_id = "00000000:43:00.0";
  gpu.n_nvlinks = 5;
  gpu.numa_node = 1;
  gpu.cpus = "4-7";
  gpu.peers = {{.gpu = 0, .path = GpuPath::kSystem, .n_nvlinks = 5}, {.gpu = 2}};
  return gpu;
}

// What it says of generations, lanes, links and paths is left out as impossible or not supported.
GpuInfo Odd() {
  return {.name = std::string(95, 'x'),
          .pci_bus_id = "00000000:44:00.0",
          .memory_bytes = 80'000,
          .free_bytes = 80'000,
          .peers = {{.gpu = 0, .path = GpuPath::kPcieSwitch}, {.gpu = 1}}};
}

TEST(GpuList, SaysWhatTheLibraryTells) {
  for (int i = 0; i < 2; ++i) {  // it can be loaded again
    const auto gpus = ListGpus(TC_FAKE_NVML);
    ASSERT_THAT(gpus.status(), testing::IsOk());
    ASSERT_EQ(gpus->size(), 3u);
    EXPECT_EQ((*gpus)[0], First());
    EXPECT_EQ((*gpus)[1], Last());
    EXPECT_EQ((*gpus)[2], Odd());
  }
}

TEST(GpuList, AGpuIsFoundByItsPlaceHoweverThatIsWritten) {
  std::vector<GpuInfo> gpus(3);
  gpus[0].pci_bus_id = "00000000:1B:00.0";
  gpus[1].pci_bus_id = "00000001:1B:00.0";
  EXPECT_EQ(FindGpuAt(gpus, "0000:1b:00.0"), 0);
  EXPECT_EQ(FindGpuAt(gpus, "0001:1b:00.0"), 1);
  EXPECT_EQ(FindGpuAt(gpus, "0000:1c:00.0"), -1);
  for (const char* const none : {"", "1b", "0000:1b:00", "0000:1b:00.0x", ":::", "0000:1b.00.0"}) {
    EXPECT_EQ(FindGpuAt(gpus, none), -1) << none;  // gpus[2] is nowhere, too
  }
}

TEST(GpuList, ADeviceOfItsOwnMemoryIsAGpuOfItsHostInAnyCase) {
  const auto card = testing::MakeApartDevice({.memory_bytes = 3 << 20});
  const auto cpu = kernels::MakeReferenceDevice();
  placement::WorkerProfile profile;
  NameGpus({First(), Last()}, Last().pci_bus_id, *card, &profile);
  EXPECT_EQ(profile.gpu, 1);
  EXPECT_EQ(profile.gpus.size(), 2u);
  NameGpus({}, "0000:1b:00.0", *card, &profile);  // no library to ask
  EXPECT_EQ(profile.gpu, 0);
  ASSERT_EQ(profile.gpus.size(), 1u);
  EXPECT_EQ(profile.gpus[0].name, card->name());
  EXPECT_EQ(profile.gpus[0].memory_bytes, uint64_t{3} << 20);
  NameGpus({}, "", *cpu, &profile);
  EXPECT_EQ(profile.gpu, -1);
  EXPECT_TRUE(profile.gpus.empty());
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
