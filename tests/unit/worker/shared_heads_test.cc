// A stage whose members share the heads of attention computes what one worker computes, bit for
// bit: attention of a head knows nothing of the others, and what is added over heads is the lead's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "tests/support/shared_stage.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::HeadRange;
using model::NeuronRange;
using testing::ChainOptions;
using testing::GgufDialect;
using ::testing::HasSubstr;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModelSpec;

constexpr int kLayers = 3;
constexpr int64_t kNeurons = 320;
constexpr int kHeads = 4;
const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3, 3, 200, 61, 7};

using Logits = std::vector<std::vector<float>>;
using Heads = std::vector<HeadRange>;

// The lead's interval need not be the first.
const Heads kCuts[] = {{{0, 1}, {1, 4}}, {{2, 4}, {0, 2}}, {{1, 3}, {0, 1}, {3, 4}}};

TinyModelSpec Spec(const std::string& arch) {
  TinyModelSpec spec{.arch = arch, .n_layer = kLayers, .n_ff = static_cast<int>(kNeurons)};
  spec.n_head_kv = kHeads;
  if (arch == "opt") return spec;  // as many heads as there are
  spec.n_embd = 128;
  spec.n_head = 2 * kHeads;
  return spec;
}

// Neurons in whole chunks for each member, or all of them for the lead.
std::vector<std::vector<NeuronRange>> Neurons(size_t n_members, bool are_shared, int64_t n_ff) {
  std::vector<std::vector<NeuronRange>> members(n_members, {kLayers, NeuronRange{}});
  if (!are_shared) {
    members[0].assign(kLayers, {0, n_ff});
    return members;
  }
  for (size_t m = 0; m < n_members; ++m) {
    const auto begin = static_cast<int64_t>(64 * m);
    members[m].assign(kLayers, {begin, m + 1 == n_members ? n_ff : begin + 64});
  }
  return members;
}

Logits Alone(const TempFile& file, FfnMode mode) {
  ChainOptions options;
  options.ffn = {mode, true};
  return StageChain(file.path(), options).Logits({1}, kTokens, 64);
}

SharedStageOptions Sharing(FfnMode mode, const Heads& heads, bool shares_neurons,
                           int64_t n_ff = kNeurons) {
  return {.modes = mode, .members = Neurons(heads.size(), shares_neurons, n_ff), .heads = heads};
}

Logits Shared(const TempFile& file, const SharedStageOptions& options, size_t chunk = 64) {
  return SharedStage(file.path(), options).Logits({1}, kTokens, chunk);
}

TEST(SharedHeads, GiveTheLogitsOfOneWorker) {
  for (const char* arch : {"llama", "qwen2", "arcee", "nemotron", "bamboo", "opt"}) {
    const TempFile file(testing::TinyModel(Spec(arch)));
    const std::string name = arch;
    const bool relu = name != "llama" && name != "qwen2";
    for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
      if (mode == FfnMode::kExact && !relu) continue;
      const Logits alone = Alone(file, mode);
      for (const Heads& heads : kCuts) {
        for (const bool shares_neurons : {false, true}) {
          EXPECT_EQ(Shared(file, Sharing(mode, heads, shares_neurons)), alone)
              << arch << " " << model::FfnModeName(mode) << " members " << heads.size();
        }
      }
    }
  }
}

TEST(SharedHeads, QuantisedModelsGiveTheBitsOfOneWorker) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ6_K}) {
    TinyModelSpec spec = Spec("arcee");
    spec.dtype = dtype;
    spec.rope_freqs = true;
    if (Traits(dtype).block_elems == 256) spec.n_embd = 256, spec.n_ff = 512;
    const TempFile file(testing::TinyModel(spec));
    const Logits alone = Alone(file, FfnMode::kExact);
    for (const Heads& heads : kCuts) {
      const auto options = Sharing(FfnMode::kExact, heads, true, spec.n_ff);
      EXPECT_EQ(Shared(file, options), alone) << DTypeName(dtype);
      EXPECT_EQ(Shared(file, options, 1), alone) << DTypeName(dtype);
    }
  }
}

TEST(SharedHeads, BitsDependOnNeitherChunksNorThreads) {
  const TempFile file(testing::TinyModel(Spec("llama")));
  SharedStageOptions options = Sharing(FfnMode::kDense, kCuts[2], true);
  const Logits whole = Shared(file, options);
  EXPECT_EQ(Shared(file, options, 1), whole);
  EXPECT_EQ(Shared(file, options, 4), whole);
  options.n_threads = 3;
  EXPECT_EQ(Shared(file, options), whole);
}

TEST(SharedHeads, EveryMemberPredictsItsOwnNeurons) {
  TinyModelSpec spec = Spec("llama");
  spec.dialect = GgufDialect::kPowerInfer;
  const TempFile file(testing::TinyModel(spec));
  EXPECT_EQ(Shared(file, Sharing(FfnMode::kPredicted, kCuts[0], true)),
            Alone(file, FfnMode::kPredicted));
}

// Sequences come, go and begin again, so that pages change hands. Members but the lead hear of
// pages only.
TEST(SharedHeads, PagesThatChangeHandsHoldTheirNewSequence) {
  const TempFile file(testing::TinyModel(Spec("llama")));
  ChainOptions alone;
  alone.ffn = {FfnMode::kDense, true};
  std::minstd_rand random(11);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  StageChain chain(file.path(), alone);
  SharedStage shared(file.path(), Sharing(FfnMode::kDense, kCuts[2], false));
  std::map<uint64_t, int64_t> n_positions;  // of sequences that are there
  for (uint64_t number = 1; number <= 40; ++number) {
    proto::StepBatch step{.epoch = {1}, .step = {number}, .entries = {}, .released = {}};
    for (uint64_t seq = 1; seq <= 4; ++seq) {
      const bool is_there = n_positions.contains(seq);
      if (is_there && below(5) == 0) {  // ends, or is to be computed again
        step.released.push_back({seq});
        n_positions.erase(seq);
      }
      if (below(3) == 0) continue;
      int64_t& position = n_positions[seq];
      proto::StepEntry entry{.seq = {seq}, .first_position = position};
      for (int i = 1 + below(9); i > 0; --i) entry.tokens.push_back(below(250));
      if (position == 0) {
        entry.start.emplace();
        entry.start->params.n_prompt_logprobs = 0;  // so that all rows have logits
        entry.start->n_prompt = 1000;
      }
      position += static_cast<int64_t>(entry.tokens.size());
      step.entries.push_back(std::move(entry));
    }
    ASSERT_TRUE(chain.Run(step).ok());
    shared.Run(step);
    for (const proto::StepEntry& entry : step.entries) {
      const int64_t end = entry.first_position + static_cast<int64_t>(entry.tokens.size());
      for (int64_t i = entry.first_position; i < end; ++i) {
        ASSERT_EQ(shared.LogitsAt(entry.seq, i), (chain.logits().rows.at({entry.seq, i})))
            << "step " << number << " seq " << entry.seq << " position " << i;
      }
    }
  }
}

TEST(SharedHeads, MembersReadAndHoldTheirOwnOnly) {
  const TempFile file(testing::TinyModel(Spec("llama")));
  SharedStage shared(file.path(), Sharing(FfnMode::kDense, {{0, 2}, {2, 3}, {3, 4}}, false));
  ChainOptions alone;
  alone.ffn = {FfnMode::kDense, true};
  StageChain chain(file.path(), alone);
  const LoadReport all = chain.last().load_report(), lead = shared.lead().load_report();
  const LoadReport one = shared.helper(0).load_report(), two = shared.helper(1).load_report();
  EXPECT_EQ(one.read_bytes, one.owned_bytes);
  EXPECT_EQ(one.owned_bytes, two.owned_bytes);
  const uint64_t norms = kLayers * sizeof(float) * 128;
  EXPECT_EQ(lead.owned_bytes + one.owned_bytes + two.owned_bytes, all.owned_bytes + 2 * norms);
}

TEST(SharedHeads, AnotherPlanMovesThem) {
  const TempFile file(testing::TinyModel(Spec("llama")));
  auto model = OpenModel(file.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto device = std::move(kernels::MakeCpuDevice({1})).value();
  const model::LayerRange all = {0, kLayers, true, true};
  const auto plan = [&](const HeadRange& own, bool is_helper) {
    FfnPlan ffn{.modes = FfnMode::kDense, .neurons = {kLayers, NeuronRange{0, kNeurons}}};
    ffn.is_helper = is_helper;
    ffn.heads.own = own;
    return ffn;
  };
  const auto load = [&](const FfnPlan& ffn, Shard* prior) {
    auto shard = Shard::Load(model->source(), all, ffn, *device, IgnoreProgress, prior);
    EXPECT_TRUE(shard.ok()) << shard.status();
    return std::move(shard).value();
  };
  const FfnPlan plans[] = {plan({}, false), plan({0, 2}, false), plan({1, 3}, true),
                           plan({2, 4}, true)};
  for (const FfnPlan& before : plans) {
    for (const FfnPlan& after : plans) {
      Shard prior = load(before, nullptr);
      const Shard moved = load(after, &prior), fresh = load(after, nullptr);
      for (const model::WeightKey& key : model->weights.KeysOf(all)) {
        const TensorView a = moved.View(key), b = fresh.View(key);
        ASSERT_EQ(a.n_rows, b.n_rows) << model::WeightRoleName(key.role);
        ASSERT_EQ(a.n_cols, b.n_cols);
        if (a.empty()) continue;
        EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0) << model::WeightRoleName(key.role);
      }
    }
  }
}

TEST(SharedHeads, WhatTheLeadMustNotTellIsRefused) {
  const TempFile file(testing::TinyModel(Spec("llama")));
  SharedStage shared(file.path(), Sharing(FfnMode::kDense, {{0, 2}, {2, 4}, {}}, false));
  const auto error = [&](const std::vector<proto::PartSequence>& told, int layer = 0,
                         size_t helper = 0) {
    const proto::Part part{
        .step = {7}, .layer = layer, .n_rows = 3, .of_heads = true, .sequences = told};
    const Status status = shared.helper(helper).Run(part, nullptr);
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    return status.message();
  };
  EXPECT_THAT(error({}), HasSubstr("has not told the rows of a step: step=7 layer=0"));
  EXPECT_THAT(error({{0, 2, {0}}}), HasSubstr("other rows than it sends: told=2 rows=3"));
  EXPECT_THAT(error({{14, 3, {0}}}), HasSubstr("positions=17 pages=1"));
  EXPECT_THAT(error({{0, 3, {0, 1}}}), HasSubstr("positions=3 pages=2"));
  EXPECT_THAT(error({{0, 3, {}}}), HasSubstr("positions=3 pages=0"));
  EXPECT_THAT(error({{14, 3, {5, 5}}}), HasSubstr("a page twice in a step: page=5"));
  EXPECT_THAT(error({{0, 1, {3}}, {15, 2, {4, 3}}}), HasSubstr("a page twice in a step: page=3"));
  EXPECT_THAT(error({{0, 3, {64}}}), HasSubstr("pages that do not hold a sequence"));
  EXPECT_THAT(error({{0, 3, {-1}}}), HasSubstr("pages that do not hold a sequence"));
  EXPECT_THAT(error({{0, 3, {0}}}, kLayers), HasSubstr("what this helper does not have"));
  EXPECT_THAT(error({{0, 3, {0}}}, 0, 1), HasSubstr("what this helper does not have"));
}

TEST(SharedHeads, AStepIsToldOnce) {
  const TempFile file(testing::TinyModel(Spec("llama")));
  SharedStage shared(file.path(), Sharing(FfnMode::kDense, {{0, 2}, {2, 4}}, false));
  const proto::Part part{
      .step = {7}, .layer = 0, .n_rows = 3, .of_heads = true, .sequences = {{0, 3, {0}}}};
  PartExchange without;  // that has no x
  EXPECT_EQ(shared.helper(0).Run(part, &without).code(), StatusCode::kInternal);
  EXPECT_THAT(shared.helper(0).Run(part, &without).message(),
              HasSubstr("tells the rows of a step twice: step=7 layer=0"));
}

}  // namespace
}  // namespace thermocline::worker
