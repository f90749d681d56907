#include "tools/bench_model/against.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

const AgainstCase kCase{.n_threads = 2, .n_prompt = 64, .n_gen = 0, .batch = 4};

TEST(FillPlaceholders, ReplacesEachAndQuotesThePath) {
  AgainstCase test = kCase;
  test.model_path = "my model.gguf";
  EXPECT_EQ(*FillPlaceholders(
                "b -m {model} -t {threads} -p {n_prompt} -n {n_gen} -np {batch} {batch}", test),
            "b -m 'my model.gguf' -t 2 -p 64 -n 0 -np 4 4");
}

TEST(FillPlaceholders, RefusesNearMissesAndLeavesOtherBraces) {
  EXPECT_EQ(*FillPlaceholders("x | awk '{print $1}' '{print}' ${HOME}", kCase),
            "x | awk '{print $1}' '{print}' ${HOME}");
  for (const char* wrong : {"{n-gen}", "{prompt}x", "{thread}", "{modell}"}) {
    EXPECT_EQ(FillPlaceholders(wrong, kCase).status().code(), StatusCode::kInvalidArgument)
        << wrong;
  }
}

TEST(FindTokensPerSecond, InATableOfLlamaBench) {
  const char* output =
      "| model | size | threads | test |                  t/s |\n"
      "| ----- | ---: | ------: | ---: | -------------------: |\n"
      "| arcee | 1.6G |       2 | pp64 |       244.10 ± 1.20  |\n"
      "| arcee | 1.6G |       2 | tg64 |         28.50 ± 0.31 |\n"
      "\nbuild: 1a2b3c4 (5)\n";
  EXPECT_DOUBLE_EQ(*FindTokensPerSecond(output), 28.5);
}

TEST(FindTokensPerSecond, InItsJsonAndCsv) {
  EXPECT_DOUBLE_EQ(*FindTokensPerSecond("[\n {\n  \"avg_ns\": 5,\n  \"avg_ts\": 46.25,\n"
                                        "  \"stddev_ts\": 0.5\n }\n]\n"),
                   46.25);
  EXPECT_DOUBLE_EQ(*FindTokensPerSecond("loading\nbuild,model,avg_ts,stddev_ts\n"
                                        "\"1\",\"a,b\",\"80.6\",\"0.2\"\n"),
                   80.6);
}

TEST(FindTokensPerSecond, InWords) {
  // PowerInfer and llama-cli: the last one is that of decoding.
  EXPECT_DOUBLE_EQ(
      *FindTokensPerSecond(
          "prompt eval time = 12.3 ms / 5 tokens (2.4 ms per token, 406.5 tokens per second)\n"
          "       eval time = 545.8 ms / 31 runs  (17.61 ms per token, 56.80 tokens per second)\n"
          "      total time = 600.0 ms\n"),
      56.8);
  EXPECT_DOUBLE_EQ(*FindTokensPerSecond("speed: 12.5 ± 0.1 t/s"), 12.5);
  EXPECT_EQ(FindTokensPerSecond("no speed: 12 ms per token").status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(FindTokensPerSecond("").status().code(), StatusCode::kNotFound);
}

TEST(AgainstPattern, TakesTheLastMatch) {
  const auto pattern = AgainstPattern::Compile("speed=([0-9.]+)");
  ASSERT_THAT(pattern.status(), testing::IsOk());
  EXPECT_DOUBLE_EQ(*pattern->Find("speed=1 speed=2.5\nother\nspeed=4\n"), 4);
  EXPECT_EQ(pattern->Find("nothing").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(pattern->Find("speed=...").status().code(), StatusCode::kNotFound);
  EXPECT_DOUBLE_EQ(*AgainstPattern::Compile("[0-9]+$")->Find("a 17"), 17);
}

TEST(AgainstPattern, NamesWhatIsNoExpression) {
  const Status status = AgainstPattern::Compile("(").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("\"(\""), std::string::npos) << status.message();
}

Against::Options Command(std::string command) {
  return {std::move(command), "", std::chrono::seconds(60)};
}

TEST(Against, RunsTheCommandOfACase) {
  const auto against = Against::Create(Command("echo {n_prompt}.5 t/s"));
  ASSERT_THAT(against.status(), testing::IsOk());
  EXPECT_DOUBLE_EQ(*against->Run(kCase), 64.5);
}

TEST(Against, ShowsTheOutputOfACommandThatFails) {
  const Status status =
      Against::Create(Command("echo 3 t/s; echo gone; exit 7"))->Run(kCase).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("exit=7"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("gone"), std::string::npos) << status.message();
}

TEST(Against, ShowsTheOutputWithoutASpeed) {
  const Status status = Against::Create(Command("echo hello"))->Run(kCase).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("hello"), std::string::npos) << status.message();
}

TEST(Against, RefusesABadPlaceholderBeforeAnythingRuns) {
  EXPECT_EQ(Against::Create(Command("x {n-gen}")).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace thermocline::tools
