#include "tools/bench_model/flags.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

BenchFlags Good() {
  BenchFlags flags;
  flags.models = "a.gguf,b.gguf";
  return flags;
}

TEST(BenchFlags, BecomeLists) {
  BenchFlags flags = Good();
  flags.prompts = "0";
  flags.gens = "0,32";
  flags.threads = "1,2";
  flags.ffn = "dense,auto,dense";
  flags.cache_types = "f16";
  flags.probe_memory = "64M";
  flags.format = "csv";
  const auto options = ParseBenchFlags(flags);
  ASSERT_THAT(options.status(), testing::IsOk());
  EXPECT_EQ(options->model_paths, (std::vector<std::string>{"a.gguf", "b.gguf"}));
  EXPECT_TRUE(options->prompts.empty());
  EXPECT_EQ(options->gens, std::vector<int64_t>{32});
  EXPECT_EQ(options->threads, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(options->ffn, (std::vector<std::string>{"dense", "auto"}));
  EXPECT_EQ(options->cache_types, std::vector<DType>{DType::kF16});
  EXPECT_EQ(options->probe_bytes, uint64_t{64} << 20);
  EXPECT_EQ(options->format, ReportFormat::kCsv);
}

TEST(BenchFlags, WithoutThreadsTakeAllCores) {
  const auto options = ParseBenchFlags(Good());
  ASSERT_THAT(options.status(), testing::IsOk());
  ASSERT_EQ(options->threads.size(), 1u);
  EXPECT_GE(options->threads[0], 1);
  EXPECT_EQ(options->probe_bytes, 0u);
}

TEST(BenchFlags, EachErrorNamesItsFlag) {
  struct Case {
    const char* flag;
    std::function<void(BenchFlags*)> change;
  };
  const Case cases[] = {
      {"--model", [](BenchFlags* f) { f->models = ""; }},
      {"--n-prompt", [](BenchFlags* f) { f->prompts = "x"; }},
      {"--n-gen", [](BenchFlags* f) { f->gens = "99M"; }},
      {"nothing to measure", [](BenchFlags* f) { f->prompts = f->gens = "0"; }},
      {"--parallel", [](BenchFlags* f) { f->batches = "0"; }},
      {"--ctx", [](BenchFlags* f) { f->depths = "1,"; }},
      {"--threads", [](BenchFlags* f) { f->threads = "0"; }},
      {"--cpus", [](BenchFlags* f) { f->cpus = "x"; }},
      {"--ffn", [](BenchFlags* f) { f->ffn = "sparse"; }},
      {"--allow-loss", [](BenchFlags* f) { f->allowed_loss = -1; }},
      {"--cache-type", [](BenchFlags* f) { f->cache_types = "q8"; }},
      {"--repetitions", [](BenchFlags* f) { f->repetitions = 0; }},
      {"--batch-size", [](BenchFlags* f) { f->batch_size = 0; }},
      {"--output", [](BenchFlags* f) { f->format = "xml"; }},
      {"--cuda-graphs", [](BenchFlags* f) { f->cuda_graphs = "on"; }},
      {"--probe-memory", [](BenchFlags* f) { f->probe_memory = "1K"; }},
      {"--against-timeout", [](BenchFlags* f) { f->against_timeout_s = 0; }},
      {"--against-pattern", [](BenchFlags* f) { f->against_pattern = "x"; }},
  };
  for (const Case& test : cases) {
    BenchFlags flags = Good();
    test.change(&flags);
    const Status status = ParseBenchFlags(flags).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << test.flag;
    EXPECT_NE(status.message().find(test.flag), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace thermocline::tools
