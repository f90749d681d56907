#include "tools/machine/flags.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace thermocline::tools {
namespace {

TEST(MachineFlags, BecomeOptions) {
  const auto options =
      ParseMachineFlags({.n_threads = 3, .gpu_rows = "fp8-e5m2", .memory = "2G", .seconds = 0.1});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->n_threads, 3);
  EXPECT_EQ(options->memory_bytes, 2 * kGiB);
  EXPECT_EQ(options->neuron_rows, model::NeuronRows::kFp8E5M2);
  const auto defaults = ParseMachineFlags({});
  ASSERT_TRUE(defaults.ok());
  EXPECT_GE(defaults->n_threads, 1);
  EXPECT_EQ(defaults->neuron_rows, model::NeuronRows::kAsIs);
  EXPECT_GT(defaults->memory_bytes, 0u);
}

TEST(MachineFlags, MistakesNameTheFlag) {
  const auto message = [](const MachineFlags& flags) {
    return ParseMachineFlags(flags).status().message();
  };
  EXPECT_EQ(message({.n_threads = -1}), "--threads out of range: threads=-1 max=4096");
  EXPECT_EQ(message({.seconds = 1e9}), "--seconds out of range: seconds=1e+09 max=60");
  EXPECT_EQ(message({.memory = "much"}).substr(0, 8), "--memory");
  EXPECT_EQ(message({.gpu_rows = "fp8"}).substr(0, 10), "--gpu-rows");
  EXPECT_EQ(message({.cpus = "x"}).substr(0, 6), "--cpus");
}

}  // namespace
}  // namespace thermocline::tools
