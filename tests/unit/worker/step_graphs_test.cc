// Replayed steps have the bits of those whose ops are launched one by one, on the CUDA backend over
// the emulator.
#include "worker/step_graphs.h"

#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "tests/support/emulated_gpu.h"
#include "tests/support/random_steps.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using kernels::cuda::EmulatorOptions;
using model::FfnMode;
using model::FfnModes;
using testing::ChainOptions;
using testing::DecodeStep;
using testing::Prompt;
using testing::RandomService;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr uint64_t kMuch = uint64_t{64} << 20;
constexpr int kLayers = 2;

ChainOptions OnEmulator(uint64_t graph_bytes, const EmulatorOptions& emulator = {}) {
  ChainOptions options;
  options.make_device = [emulator] { return testing::EmulatedGpuOf(emulator); };
  options.graph_bytes = graph_bytes;
  options.n_pages = 256;
  return options;
}

TinyModelSpec SpecOf(const std::string& arch, DType dtype = DType::kF16) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = kLayers;
  spec.n_ctx = 1024;
  spec.rope_freqs = arch == "llama";
  return spec;
}

// The layers of a model as a stage that another follows: what a graph holds, and no head.
class Layers {
 public:
  Layers(const std::string& path, const FfnPlan& ffn, DType kv_dtype, const ChainOptions& options)
      : device_(options.make_device()) {
    auto model = OpenModel(path);
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = std::move(model).value();
    StageOptions stage;
    stage.layers = {0, model_.config.n_layer, true, false};
    stage.ffn = ffn;
    stage.kv.dtype = kv_dtype;
    stage.kv.n_pages = options.n_pages;
    stage.max_step_tokens = 64;
    stage.graph_bytes = options.graph_bytes;
    auto created = Stage::Create(model_.source(), stage, *device_, nullptr, IgnoreProgress);
    EXPECT_TRUE(created.ok()) << created.status();
    stage_ = std::move(created).value();
  }

  // By step what the next stage would get.
  std::vector<std::vector<float>> Run(const std::vector<proto::StepBatch>& steps) {
    std::vector<std::vector<float>> activations;
    for (const proto::StepBatch& step : steps) {
      const Status status = stage_->Run(step, {});
      EXPECT_TRUE(status.ok()) << status;
      const TensorView x = stage_->activation();
      activations.emplace_back(x.f32_row(0), x.f32_row(0) + x.n_rows * x.n_cols);
    }
    return activations;
  }
  const StepGraphs* graphs() const { return stage_->graphs(); }

 private:
  std::unique_ptr<kernels::Device> device_;
  LoadedModel model_;
  std::unique_ptr<Stage> stage_;
};

struct Case {
  const char* arch;
  DType dtype = DType::kF16;
  FfnMode mode = FfnMode::kDense;
  DType kv_dtype = DType::kF32;
  int n_layers = 1;
  int n_multiprocessors = 4;  // many: attention has a block for each chunk of positions
};

TEST(StepGraphs, AServiceHasTheSameBitsWithAndWithoutThem) {
  const Case cases[] = {
      {.arch = "llama", .kv_dtype = DType::kF16, .n_layers = 2, .n_multiprocessors = 1000},
      {.arch = "llama", .dtype = DType::kQ8_0},
      {.arch = "opt", .mode = FfnMode::kExact, .n_multiprocessors = 1000},
      {.arch = "arcee", .dtype = DType::kQ4_0, .mode = FfnMode::kExact},
      {.arch = "qwen2", .dtype = DType::kF32, .n_multiprocessors = 1000},
  };
  uint32_t seed = 1;
  for (const Case& test : cases) {
    const std::string name = std::string(test.arch) + " seed " + std::to_string(seed);
    TinyModelSpec spec = SpecOf(test.arch, test.dtype);
    spec.n_layer = test.n_layers;
    const TempFile file(TinyModel(spec));
    const FfnPlan ffn{.modes = test.mode, .down_by_neuron = test.mode != FfnMode::kDense};
    const EmulatorOptions emulator{.n_multiprocessors = test.n_multiprocessors};
    Layers plain(file.path(), ffn, test.kv_dtype, OnEmulator(0, emulator));
    Layers replaying(file.path(), ffn, test.kv_dtype, OnEmulator(kMuch, emulator));
    const auto steps = RandomService(seed++, 5);
    EXPECT_TRUE(plain.Run(steps) == replaying.Run(steps)) << name;
    EXPECT_EQ(plain.graphs(), nullptr);
    ASSERT_NE(replaying.graphs(), nullptr);
    EXPECT_GT(replaying.graphs()->n_replays(), 5) << name;
  }
}

TEST(StepGraphs, ContextsGrowIntoTheNextBucket) {
  TinyModelSpec spec = SpecOf("llama");
  spec.n_layer = 1;
  spec.n_embd = spec.n_ff = 32;
  spec.n_head = 2, spec.n_head_kv = 1;
  const TempFile file(TinyModel(spec));
  std::vector<proto::StepBatch> steps;
  for (int64_t at = 0; at < 500; at += 50) steps.push_back(Prompt(1, at, 50));
  steps.push_back(Prompt(2, 0, 5));
  std::map<uint64_t, int64_t> live = {{1, 500}, {2, 5}};
  for (int i = 0; i < 24; ++i) {
    steps.push_back(DecodeStep(live));
    for (auto& [seq, position] : live) ++position;
  }
  // Many blocks of attention, so that the longer launch differs.
  const EmulatorOptions emulator{.n_multiprocessors = 1000};
  Layers plain(file.path(), {}, DType::kF32, OnEmulator(0, emulator));
  Layers replaying(file.path(), {}, DType::kF32, OnEmulator(kMuch, emulator));
  EXPECT_TRUE(plain.Run(steps) == replaying.Run(steps));
  // Of either bucket 12 steps, of which three come before the graph.
  EXPECT_EQ(replaying.graphs()->n_graphs(), 2);
  EXPECT_EQ(replaying.graphs()->n_replays(), 18);
}

TEST(StepGraphs, AChainOfStagesReplaysInEach) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const std::vector<int32_t> prompt = {5, 17, 42};
  ChainOptions plain = OnEmulator(0), replaying = OnEmulator(kMuch);
  plain.cuts = replaying.cuts = {1};
  StageChain chain(file.path(), replaying);
  EXPECT_EQ(chain.Generate(SeqId{1}, prompt, 10),
            StageChain(file.path(), plain).Generate(SeqId{1}, prompt, 10));
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(chain.stage(i).graphs()->n_replays(), 6);
}

TEST(StepGraphs, BucketsHoldTheirLongestContext) {
  EXPECT_EQ(ContextBucket(1), 512);
  EXPECT_EQ(ContextBucket(512), 512);
  EXPECT_EQ(ContextBucket(513), 2048);
  EXPECT_EQ(ContextBucket(100000), 131072);
}

// The stage of the next plan takes the weights over, and has pages that the arguments' places of
// the one before have no room for.
TEST(StepGraphs, GoWithThePlan) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  const auto model = OpenModel(file.path());
  ASSERT_TRUE(model.ok());
  const auto device = OnEmulator(0).make_device();
  const auto run = [&](uint64_t graph_bytes, Shard* prior, int64_t n_pages, auto* rows) {
    testing::LogitsRecorder logits;
    StageOptions options;
    options.layers = {0, kLayers, true, true};
    options.kv.n_pages = n_pages;
    options.prior = prior;
    options.graph_bytes = graph_bytes;
    auto stage = Stage::Create(model->source(), options, *device, &logits, IgnoreProgress);
    EXPECT_TRUE(stage.ok()) << stage.status();
    std::map<uint64_t, int64_t> live = {{1, 3}, {2, 3}};
    EXPECT_TRUE((*stage)->Run(Prompt(1, 0, 3), {}).ok() && (*stage)->Run(Prompt(2, 0, 3), {}).ok());
    for (int i = 0; i < 8; ++i) {
      EXPECT_TRUE((*stage)->Run(DecodeStep(live), {}).ok());
      for (auto& [seq, position] : live) ++position;
    }
    EXPECT_EQ((*stage)->graphs() == nullptr ? 0 : (*stage)->graphs()->n_replays(),
              graph_bytes > 0 ? 5 : 0);
    *rows = std::move(logits.rows);
    return (*stage)->TakeShard();
  };
  const uint64_t free_bytes = device->memory().free_bytes;
  std::map<std::pair<SeqId, int64_t>, std::vector<float>> plain, first, second;
  { const Shard dropped = run(0, nullptr, 64, &plain); }
  Shard shard = run(kMuch, nullptr, 64, &first);
  shard = run(kMuch, &shard, 2000, &second);
  EXPECT_TRUE(first == plain);
  EXPECT_TRUE(second == plain);
  shard = Shard();
  EXPECT_GT(device->memory().free_bytes + (uint64_t{16} << 20), free_bytes);
}

// What graphs take never exceeds what is theirs; those that nobody uses give way.
TEST(StepGraphs, KeepWithinTheirMemory) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const EmulatorOptions emulator{.recorded_launch_bytes = kAssumedLaunchBytes};
  StageChain none(file.path(), OnEmulator(uint64_t{1} << 20, emulator));
  StageChain some(file.path(), OnEmulator(uint64_t{6} << 20, emulator));
  for (StageChain* chain : {&none, &some}) {
    const uint64_t free_bytes = chain->device().memory().free_bytes;
    std::map<uint64_t, int64_t> live;
    for (uint64_t seq = 1; seq <= 4; ++seq) {
      ASSERT_TRUE(chain->Run(Prompt(seq, 0, 2)).ok());
      live[seq] = 2;
      for (int i = 0; i < 6; ++i) {
        ASSERT_TRUE(chain->Run(DecodeStep(live)).ok());
        for (auto& [id, position] : live) ++position;
      }
      const uint64_t limit = chain == &none ? 0 : uint64_t{6} << 20;
      EXPECT_GE(chain->device().memory().free_bytes + limit, free_bytes);
    }
  }
  EXPECT_EQ(none.last().graphs()->n_replays(), 0);
  const int n_graphs = some.last().graphs()->n_graphs();
  EXPECT_GE(n_graphs, 1);
  EXPECT_LT(n_graphs, 4) << "else the test shows nothing";
}

TEST(StepGraphs, ADeviceThatRefusesComputesAsEver) {
  const TempFile file(TinyModel(SpecOf("llama")));
  StageChain plain(file.path(), OnEmulator(0));
  StageChain refused(file.path(), OnEmulator(kMuch, {.records = false}));
  const std::vector<int32_t> prompt = {5, 17, 42};
  EXPECT_EQ(refused.Generate(SeqId{1}, prompt, 8), plain.Generate(SeqId{1}, prompt, 8));
  EXPECT_EQ(refused.last().graphs()->n_replays(), 0);
}

// Modes on trial are timed, op by op.
TEST(StepGraphs, AStageThatChoosesModesGivesTheSameTokens) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  FfnModes modes = FfnMode::kDense;
  modes.Add(FfnMode::kExact);
  ChainOptions choosing = OnEmulator(kMuch), plain = OnEmulator(0);
  choosing.ffn = plain.ffn = {modes, true};
  StageChain chain(file.path(), choosing);
  const std::vector<int32_t> prompt = {5, 17, 42};
  EXPECT_EQ(chain.Generate(SeqId{1}, prompt, 40),
            StageChain(file.path(), plain).Generate(SeqId{1}, prompt, 40));
}

TEST(StepGraphs, WhoWatchesOpsSeesEach) {
  class Observer final : public OpObserver {
   public:
    void OnOp(const LoweredOp&, TensorView, TensorView) override {}
  } observer;
  const TempFile file(TinyModel(SpecOf("llama")));
  ChainOptions options = OnEmulator(kMuch);
  options.observer = &observer;
  EXPECT_EQ(StageChain(file.path(), options).last().graphs(), nullptr);
}

// Counts of firing neurons come from steps between replays, all layers in turn.
TEST(StepGraphs, NeuronsThatFireAreCounted) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  ChainOptions options = OnEmulator(kMuch);
  options.ffn = {FfnMode::kExact, true};
  StageChain chain(file.path(), options);
  FiringCounter firing(chain.last().shard(), {0, kLayers, true, true});
  chain.last().set_firing(&firing);
  (void)chain.Generate(SeqId{1}, {5, 17, 42}, 100);
  EXPECT_GT(chain.last().graphs()->n_replays(), 60);
  std::vector<uint64_t> n_tokens(kLayers);
  const auto keep = [&](const proto::Message& message) {
    const auto& counts = std::get<proto::FiringCounts>(message);
    n_tokens[static_cast<size_t>(counts.layer)] = counts.n_tokens;
    return OkStatus();
  };
  ASSERT_TRUE(firing.Report({1}, TimePoint{} + std::chrono::seconds(60), keep).ok());
  for (const uint64_t n : n_tokens) EXPECT_GE(n, 8u);
}

TEST(StepGraphs, LittleIsKeptFreeOfLittle) {
  EXPECT_EQ(GraphBytes(uint64_t{320} << 20), uint64_t{10} << 20);
  EXPECT_EQ(GraphBytes(uint64_t{140} << 30), kMaxGraphBytes);
}

}  // namespace
}  // namespace thermocline::worker
