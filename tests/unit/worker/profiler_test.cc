#include "worker/profiler.h"

#include <gtest/gtest.h>

#include <map>

#include "base/check.h"
#include "base/host_info.h"
#include "base/units.h"
#include "placement/profile.h"
#include "tests/support/status_matchers.h"

namespace thermocline::worker {
namespace {

class MeasuredWorker : public ::testing::Test {
 protected:
  // Brief: each measurement is made at least once.
  static placement::WorkerProfile Measure(const ProfilerOptions& options) {
    auto device = kernels::MakeCpuDevice({options.n_threads, {}});
    CHECK(device.ok());
    auto profile = MeasureWorker(**device, options);
    CHECK(profile.ok());
    return *std::move(profile);
  }
};

TEST_F(MeasuredWorker, HasEveryFigure) {
  const placement::WorkerProfile profile =
      Measure({.n_threads = 3, .memory_bytes = 32 * kMiB, .time = Duration{1}});
  placement::ClusterProfile cluster{.workers = {profile}, .links = {}};
  EXPECT_THAT(placement::ValidateCluster(cluster), testing::IsOk());
  EXPECT_EQ(profile.n_threads, 3);
  EXPECT_EQ(profile.memory_bytes, 32 * kMiB);
  EXPECT_GE(profile.n_cores, 1);
  EXPECT_GE(profile.n_numa_nodes, 1);
  EXPECT_EQ(profile.host, HostName());
  for (const placement::Figure& figure :
       {profile.read_bytes_per_s, profile.gather_bytes_per_s, profile.op_overhead_s}) {
    EXPECT_EQ(figure.origin, placement::Origin::kMeasured);
    EXPECT_GT(figure.value, 0);
  }
  ASSERT_EQ(profile.read_rates.size(), 3u);  // 1, 2 and 3 threads
  EXPECT_EQ(profile.read_rates[2].n_threads, 3);
  EXPECT_EQ(profile.read_rates[2].bytes_per_s, profile.read_bytes_per_s);
}

TEST_F(MeasuredWorker, KnowsEveryTypeOfWeights) {
  const placement::WorkerProfile profile =
      Measure({.n_threads = 1, .memory_bytes = 64 * kMiB, .time = Duration{1}});
  std::map<DType, int> n_products, n_rates;
  for (const auto& rate : profile.compute_rates) n_products[rate.dtype] += rate.flops_per_s.known();
  for (const auto& rate : profile.weight_rates) n_rates[rate.dtype] += rate.bytes_per_s.known();
  EXPECT_EQ(n_products.size(), 8u);
  EXPECT_EQ(n_rates.size(), 8u);
  for (const auto& [dtype, n] : n_products) EXPECT_EQ(n, 4) << DTypeName(dtype);
  for (const auto& [dtype, n] : n_rates) EXPECT_EQ(n, 10) << DTypeName(dtype);
}

TEST_F(MeasuredWorker, KeepsWithinItsMemory) {
  (void)Measure({.n_threads = 1, .memory_bytes = 16 * kMiB, .time = Duration{1}});
  const uint64_t small = PeakRssBytes();
  (void)Measure({.n_threads = 1, .memory_bytes = 1024 * kMiB, .time = Duration{1}});
  // The region was 60 MiB larger; AddressSanitizer holds back some of what was freed besides.
  EXPECT_LT(PeakRssBytes(), small + 32 * kMiB) << "the peak of a measurement is not forgotten";
}

}  // namespace
}  // namespace thermocline::worker
