// The head of the last stage on the CUDA backend over the emulator: where its shape comes again it
// is replayed, and the same tokens are chosen.
#include "worker/logits_head.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/emulated_gpu.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using kernels::cuda::EmulatorCounts;
using kernels::cuda::EmulatorOptions;
using testing::ChainOptions;
using testing::OneEntry;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr uint64_t kMuch = uint64_t{64} << 20;
const std::vector<int32_t> kPrompt = {5, 17, 42};

ChainOptions OnEmulator(uint64_t graph_bytes, const EmulatorOptions& emulator = {}) {
  ChainOptions options;
  options.make_device = [emulator] { return testing::EmulatedGpuOf(emulator); };
  options.graph_bytes = graph_bytes;
  options.records_logits = false;
  return options;
}

TinyModelSpec SpecOf(const std::string& arch, DType dtype) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = 1;
  return spec;
}

proto::SequenceStart Asking(int top_k, float temperature) {
  proto::SequenceStart start;
  start.params.temperature = temperature;
  start.params.top_k = top_k;
  start.params.seed = 7;
  start.n_prompt = static_cast<int32_t>(kPrompt.size());
  return start;
}

TEST(LogitsHead, ChoosesTheSameTokensReplayed) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    const TempFile file(TinyModel(SpecOf("llama", dtype)));
    StageChain plain(file.path(), OnEmulator(0)), replaying(file.path(), OnEmulator(kMuch));
    EXPECT_EQ(replaying.Generate(SeqId{1}, kPrompt, 10), plain.Generate(SeqId{1}, kPrompt, 10));
    EXPECT_EQ(plain.last().head()->n_replays(), 0);
    // The prompt's head has the shape of the others.
    EXPECT_EQ(replaying.last().head()->n_replays(), 7);
    // Another number of candidates is another shape.
    const auto start = Asking(20, 0.9f);
    EXPECT_EQ(replaying.Generate(SeqId{2}, kPrompt, 10, start),
              plain.Generate(SeqId{2}, kPrompt, 10, start));
    EXPECT_EQ(replaying.last().head()->n_replays(), 14);
  }
}

// A graph is for any rows of an activation, as many as it was made with.
TEST(LogitsHead, ServesWhicheverRowsAreAskedFor) {
  const TempFile file(TinyModel(SpecOf("qwen2", DType::kF16)));
  StageChain plain(file.path(), OnEmulator(0)), replaying(file.path(), OnEmulator(kMuch));
  for (StageChain* chain : {&plain, &replaying}) {
    for (uint64_t seq = 1; seq <= 4; ++seq) {
      ASSERT_TRUE(chain->Run(OneEntry(SeqId{seq}, 0, kPrompt, false, 3)).ok());
    }
  }
  for (int64_t i = 0; i < 12; ++i) {
    const auto asking = [&](StageChain* chain) {
      proto::StepBatch step;
      for (uint64_t seq = 1; seq <= 4; ++seq) {
        const auto token = static_cast<int32_t>(seq * 40 + static_cast<uint64_t>(i));
        const bool is_asked = seq % 4 == static_cast<uint64_t>(i) % 4 || seq == 2;
        step.entries.push_back(OneEntry(SeqId{seq}, 3 + i, {token}, is_asked, 3).entries.front());
      }
      EXPECT_TRUE(chain->Run(std::move(step)).ok());
      std::vector<int32_t> tokens;
      for (const auto& result : chain->last().results()) {
        if (result.sampled) tokens.push_back(result.sampled->token);
      }
      return tokens;
    };
    EXPECT_EQ(asking(&replaying), asking(&plain)) << i;
  }
  EXPECT_GT(replaying.last().head()->n_replays(), 4);
}

// Who wants all logits, or looks at ops, has the head launched as ever.
TEST(LogitsHead, IsAsEverForWhoWantsMore) {
  const TempFile file(TinyModel(SpecOf("arcee", DType::kF16)));
  ChainOptions recording = OnEmulator(kMuch);
  recording.records_logits = true;
  StageChain chain(file.path(), recording);
  (void)chain.Generate(SeqId{1}, kPrompt, 8);
  EXPECT_EQ(chain.last().head()->n_replays(), 0);
  EXPECT_GT(chain.last().graphs()->n_replays(), 0);
}

TEST(LogitsHead, AStepOfOneStageIsTwoLaunches) {
  const TempFile file(TinyModel(SpecOf("llama", DType::kF16)));
  EmulatorCounts counts;
  StageChain chain(file.path(), OnEmulator(kMuch, {.counts = &counts}));
  (void)chain.Generate(SeqId{1}, kPrompt, 8);
  counts = {};
  ASSERT_TRUE(chain.Run(OneEntry(SeqId{1}, 10, {4}, true, 3)).ok());
  EXPECT_EQ(counts.n_replays, 2);
  EXPECT_EQ(counts.n_launches, 0);
}

}  // namespace
}  // namespace thermocline::worker
