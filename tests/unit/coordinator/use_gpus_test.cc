// Which workers a service that is started alone has beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <span>
#include <string_view>

#include "base/cpu_list.h"
#include "coordinator/flags.h"
#include "coordinator/worker_process.h"
#include "tests/support/patience.h"
#include "tests/support/temp_file.h"

namespace thermocline::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Not;

using Words = std::vector<std::string>;

std::optional<std::string> NoEnvironment(const std::string&) { return std::nullopt; }

ServeConfig ConfigOf(ServeFlags flags) {
  flags.model_path = "model.gguf";
  auto config = ResolveServeFlags(flags, NoEnvironment);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : ServeConfig{};
}

TEST(UseGpus, EachHasAWorkerAndTheCpuTheRestOfTheCores) {
  ServeConfig config = ConfigOf({.gpu_memory = "20G", .gpu_rows = "fp8-e4m3"});
  EXPECT_TRUE(config.takes_gpus);
  UseGpus({0, 1}, 16, &config);
  ASSERT_EQ(config.worker_arguments.size(), 3u);
  EXPECT_THAT(config.worker_arguments[0], IsSupersetOf({"--device", "cuda:0", "--gpu-memory", "20G",
                                                        "--gpu-rows", "fp8-e4m3"}));
  EXPECT_THAT(config.worker_arguments[1], IsSupersetOf({"--device", "cuda:1"}));
  EXPECT_THAT(config.worker_arguments[2], IsSupersetOf({"--device", "cpu", "--threads", "14"}));
  EXPECT_THAT(config.worker_arguments[0], Not(Contains("--threads")));
  ASSERT_EQ(config.engine.expected.size(), 3u);
}

TEST(UseGpus, WithoutGpusThereIsOneWorker) {
  ServeConfig config = ConfigOf({});
  const auto before = config.worker_arguments;
  UseGpus({}, 16, &config);
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
  UseGpus({0}, 16, &config);
  EXPECT_THAT(config.worker_arguments.back(), IsSupersetOf({"--threads", "4"}));
  EXPECT_THAT(config.worker_arguments.back(), Not(Contains("15")));
}

// One before it cannot be used: ordinals are those of CUDA.
TEST(UseGpus, OrdinalsMayHaveGaps) {
  ServeConfig config = ConfigOf({});
  UseGpus({1, 3}, 4, &config);
  ASSERT_EQ(config.worker_arguments.size(), 3u);
  EXPECT_THAT(config.worker_arguments[0], IsSupersetOf({"--device", "cuda:1"}));
  EXPECT_THAT(config.worker_arguments[1], IsSupersetOf({"--device", "cuda:3"}));
}

TEST(UseGpus, CpusThatWereNamedAreSharedOut) {
  const std::string all = CpuListText(AllowedCpus());
  const std::vector<int> cpus = AllowedCpus();
  const auto n_cpus = static_cast<int>(cpus.size());
  if (n_cpus < 2) GTEST_SKIP() << "one CPU";
  ServeConfig config = ConfigOf({.n_threads = n_cpus, .cpus = all});
  UseGpus({0}, n_cpus, &config);
  ASSERT_EQ(config.worker_arguments.size(), 2u);
  EXPECT_THAT(config.worker_arguments[0], IsSupersetOf(Words{"--cpus", std::to_string(cpus[0])}));
  EXPECT_THAT(config.worker_arguments[0], Not(Contains("--threads")));
  const std::vector<int> rest(cpus.begin() + 1, cpus.end());
  EXPECT_THAT(
      config.worker_arguments[1],
      IsSupersetOf(Words{"--cpus", CpuListText(rest), "--threads", std::to_string(n_cpus - 1)}));
}

TEST(UseGpus, WhereCpusAreFewAllShareThem) {
  const std::string first = std::to_string(AllowedCpus().front());
  ServeConfig config = ConfigOf({.cpus = first});
  UseGpus({0, 1}, 16, &config);
  ASSERT_EQ(config.worker_arguments.size(), 3u);
  for (const auto& arguments : config.worker_arguments) {
    EXPECT_THAT(arguments, IsSupersetOf(Words{"--cpus", first}));
  }
}

// A program for as long as a test needs it.
class Script {
 public:
  explicit Script(std::string_view text) : file_(std::as_bytes(std::span(text))) {
    EXPECT_EQ(chmod(file_.path().c_str(), 0700), 0);
  }
  const std::string& path() const { return file_.path(); }

 private:
  const testing::TempFile file_;
};

TEST(ListGpus, AreTheOrdinalsThatTheProgramTells) {
  EXPECT_THAT(ListGpus("/nowhere/thermocline-worker"), ElementsAre());
  const Script script(
      "#!/bin/sh\necho 'cuda:0 A Card'\necho 'something else'\necho 'cuda:2 Another'\n");
  EXPECT_THAT(ListGpus(script.path()), ElementsAre(0, 2));
}

TEST(ListGpus, ThoseToldBeforeAnotherHangs) {
  const Script script("#!/bin/sh\necho 'cuda:0 A Card'\nexec sleep 1000\n");
  // On a machine that stalls the time may be over before it has told any.
  EXPECT_TRUE(testing::InGrowingTime(std::chrono::milliseconds(300), [&](Duration patience) {
    return ListGpus(script.path(), patience) == std::vector<int>{0};
  }));
}

}  // namespace
}  // namespace thermocline::coordinator
