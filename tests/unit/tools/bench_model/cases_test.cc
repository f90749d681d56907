#include "tools/bench_model/cases.h"

#include <gtest/gtest.h>

namespace thermocline::tools {
namespace {

BenchOptions Options() {
  BenchOptions options;
  options.model_paths = {"a", "b"};
  options.prompts = {64};
  options.gens = {16, 32};
  options.batches = {1, 4};
  options.depths = {0, 100};
  options.threads = {1, 2};
  options.ffn = {"dense"};
  options.cache_types = {DType::kF32};
  return options;
}

TEST(BenchCases, CombineEverything) {
  const BenchCases all = CombineCases(Options());
  ASSERT_EQ(all.setups.size(), 4u);  // 2 models, 2 thread counts
  EXPECT_EQ(all.setups[1].i_model, 0u);
  EXPECT_EQ(all.setups[1].n_threads, 2);
  EXPECT_EQ(all.setups[2].i_model, 1u);
  // At each of 2 depths 1 prompt, which no batch multiplies, and 2 lengths times 2 batches.
  ASSERT_EQ(all.cases.size(), 4u * 2 * (1 + 2 * 2));
  EXPECT_EQ(all.cases.front().n_prompt, 64);
  EXPECT_EQ(all.cases.front().batch, 1);
  EXPECT_EQ(all.cases.back().n_gen, 32);
  EXPECT_EQ(all.cases.back().batch, 4);
  EXPECT_EQ(all.cases.back().i_setup, 3u);
}

TEST(BenchCases, AreNamedAsLlamaBenchDoes) {
  EXPECT_EQ(TestName({.n_prompt = 64}), "pp64");
  EXPECT_EQ(TestName({.n_gen = 32, .batch = 4}), "tg32");
  EXPECT_EQ(TestName({.n_gen = 32, .depth = 512}), "tg32 @ d512");
}

TEST(BenchCases, CountTheTokensWhoseTimeIsTaken) {
  const BenchCase prefill{.n_prompt = 64, .depth = 100};
  EXPECT_EQ(prefill.n_tokens(), 64);
  EXPECT_EQ(prefill.n_positions(), 164);
  const BenchCase decode{.n_gen = 32, .batch = 4};
  EXPECT_EQ(decode.n_tokens(), 128);
  EXPECT_EQ(decode.n_positions(), 32);
}

TEST(BenchCases, NeedRoomForTheLargestOfASetup) {
  BenchCases all;
  all.setups.resize(2);
  all.cases = {{.i_setup = 0, .n_prompt = 700},
               {.i_setup = 0, .n_gen = 30, .batch = 64, .depth = 10},
               {.i_setup = 1, .n_gen = 5000}};
  const StageNeeds needs = NeedsOf(all, 0, 512, 16);
  EXPECT_EQ(needs.n_pages, 64 * 3);  // 40 positions are 3 pages
  EXPECT_EQ(needs.max_step_tokens, 512);
  const StageNeeds small = NeedsOf(all, 1, 512, 16);
  EXPECT_EQ(small.n_pages, 313);
  EXPECT_EQ(small.max_step_tokens, 1);
  EXPECT_EQ(NeedsOf(all, 0, 32, 16).max_step_tokens, 64);  // the batch decodes in one step
}

TEST(GroupByMemory, FillsEachGroup) {
  using Groups = std::vector<std::vector<size_t>>;
  EXPECT_EQ(GroupByMemory({3, 3, 3}, 9), (Groups{{0, 1, 2}}));
  EXPECT_EQ(GroupByMemory({3, 3, 3}, 8), (Groups{{0, 1}, {2}}));
  EXPECT_EQ(GroupByMemory({10, 1, 1}, 5), (Groups{{0}, {1, 2}}));
  EXPECT_EQ(GroupByMemory({1, 10, 1}, 5), (Groups{{0}, {1}, {2}}));
  EXPECT_EQ(GroupByMemory({}, 5), Groups{});
}

}  // namespace
}  // namespace thermocline::tools
