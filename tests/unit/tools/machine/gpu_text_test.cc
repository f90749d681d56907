#include "tools/machine/gpu_text.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/units.h"

namespace thermocline::tools {
namespace {

using placement::Figure;
using placement::GpuInfo;
using placement::GpuPath;

TEST(GpuText, NoGpusNoWords) { EXPECT_EQ(GpuText({}), ""); }

TEST(GpuText, AGpuAloneIsALineOfWhatIsTold) {
  EXPECT_EQ(GpuText(std::vector<GpuInfo>{
                {.name = "G", .pci_bus_id = "0:1", .memory_bytes = 2 * kGiB, .free_bytes = kGiB}}),
            "gpu 0 at 0:1: G, 2.0 GiB, 1.0 GiB free\n");
}

TEST(GpuText, SaysWhatLiesBetweenEachTwo) {
  const std::vector<GpuInfo> gpus = {
      {.name = "G\n",
       .pci_bus_id = "0:1",
       .driver = "580.95",
       .compute_capability = 90,
       .memory_bytes = 2 * kGiB,
       .free_bytes = kGiB,
       .pcie_generation = 5,
       .pcie_lanes = 16,
       .n_nvlinks = 1,
       .nvlink_generation = 4,
       .numa_node = 1,
       .cpus = "0-3",
       .peers = {{.gpu = 1, .n_nvlinks = 1, .bytes_per_s = Figure::Assumed(19.4e9)},
                 {.gpu = 2, .path = GpuPath::kPcieSwitch}}},
      {.name = "H", .pci_bus_id = "0:2", .peers = {{.gpu = 2, .path = GpuPath::kSystem}}},
      {.name = "I", .pci_bus_id = "0:3"}};
  EXPECT_EQ(GpuText(gpus),
            "gpu 0 at 0:1: G\\x0a, 2.0 GiB, 1.0 GiB free, compute capability 9.0, PCIe 5 x16, "
            "1 x NVLink 4, NUMA node 1, CPUs 0-3\n"
            "gpu 1 at 0:2: H, 0 B, 0 B free\n"
            "gpu 2 at 0:3: I, 0 B, 0 B free\n"
            "NVIDIA driver 580.95\n"
            "\n"
            "what lies between GPUs\n"
            "|       | gpu 0    | gpu 1                         | gpu 2             |\n"
            "| ----- | -------- | ----------------------------- | ----------------- |\n"
            "| gpu 0 | -        | 1 x NVLink 4, 19 GB/s assumed | same PCIe switch  |\n"
            "| gpu 1 | not told | -                             | across NUMA nodes |\n"
            "| gpu 2 | not told | not told                      | -                 |\n");
}

}  // namespace
}  // namespace thermocline::tools
