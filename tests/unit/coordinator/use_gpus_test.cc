// Which workers a service that is started alone has beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/flags.h"
#include "coordinator/worker_process.h"

namespace thermocline::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Not;

std::optional<std::string> NoEnvironment(const std::string&) { return std::nullopt; }

ServeConfig ConfigOf(ServeFlags flags) {
  flags.model_path = "model.gguf";
  auto config = ResolveServeFlags(flags, NoEnvironment);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : ServeConfig{};
}

TEST(UseGpus, EachHasAWorkerAndTheCpuTheRestOfTheCores) {
  ServeConfig config = ConfigOf({.gpu_memory = "20G"});
  EXPECT_TRUE(config.takes_gpus);
  UseGpus(2, 16, &config);
  ASSERT_EQ(config.worker_arguments.size(), 3u);
  EXPECT_THAT(config.worker_arguments[0],
              IsSupersetOf({"--device", "cuda:0", "--gpu-memory", "20G"}));
  EXPECT_THAT(config.worker_arguments[1], IsSupersetOf({"--device", "cuda:1"}));
  EXPECT_THAT(config.worker_arguments[2], IsSupersetOf({"--device", "cpu", "--threads", "14"}));
  EXPECT_THAT(config.worker_arguments[0], Not(Contains("--threads")));
  ASSERT_EQ(config.engine.expected.size(), 3u);
}

TEST(UseGpus, WithoutGpusThereIsOneWorker) {
  ServeConfig config = ConfigOf({});
  const auto before = config.worker_arguments;
  UseGpus(0, 16, &config);
  EXPECT_EQ(config.worker_arguments, before);
  EXPECT_EQ(config.engine.expected.size(), 1u);
}

TEST(UseGpus, WhoNamesADeviceGetsThatOneOnly) {
  const ServeConfig config = ConfigOf({.device = "cuda:1"});
  EXPECT_FALSE(config.takes_gpus);
  ASSERT_EQ(config.worker_arguments.size(), 1u);
  EXPECT_THAT(config.worker_arguments[0], IsSupersetOf({"--device", "cuda:1"}));
}

TEST(UseGpus, ThreadsThatWereGivenStay) {
  ServeConfig config = ConfigOf({.n_threads = 4});
  UseGpus(1, 16, &config);
  EXPECT_THAT(config.worker_arguments.back(), IsSupersetOf({"--threads", "4"}));
  EXPECT_THAT(config.worker_arguments.back(), Not(Contains("15")));
}

TEST(ListGpus, AProgramThatIsNotThereHasNone) {
  EXPECT_THAT(ListGpus("/nowhere/thermocline-worker"), ElementsAre());
}

}  // namespace
}  // namespace thermocline::coordinator
