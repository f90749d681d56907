// Stages on a device with memory of its own compute what they compute on the host, bit for bit, and
// touch none of its memory from the host: that would be a segmentation fault.
#include "tests/support/apart_device.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/support/shared_stage.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/apart_memory.h"
#include "worker/device_memory.h"
#include "worker/firing_counter.h"
#include "worker/link_prober.h"
#include "worker/profiler.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::FfnModes;
using model::NeuronRange;
using testing::ChainOptions;
using testing::GgufDialect;
using testing::OneEntry;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr int kLayers = 3;
constexpr int64_t kNeurons = 128;
const std::vector<int32_t> kTokens = {5,  17,  42, 260, 8,  99, 3,   3,  200, 61, 7,
                                      33, 250, 12, 90,  64, 1,  128, 30, 31,  32};

TinyModelSpec SpecOf(const std::string& arch, DType dtype = DType::kF32) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = kLayers;
  spec.n_ff = static_cast<int>(kNeurons);
  return spec;
}

ChainOptions Apart(ChainOptions options = {}) {
  options.make_device = [] { return testing::MakeApartDevice(); };
  return options;
}

using Logits = std::vector<std::vector<float>>;
Logits LogitsOf(const TempFile& file, const ChainOptions& options, size_t chunk = 64) {
  return StageChain(file.path(), options).Logits(SeqId{1}, kTokens, chunk);
}

class ApartStage : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Stage, ApartStage,
                         ::testing::Values("llama", "qwen2", "arcee", "nemotron", "opt"));

TEST_P(ApartStage, GivesTheBitsOfTheHostForAnyCutAndChunk) {
  for (const DType dtype : {DType::kF32, DType::kQ8_0}) {
    const TempFile file(TinyModel(SpecOf(GetParam(), dtype)));
    const Logits wanted = LogitsOf(file, {});
    for (const std::vector<int>& cuts : std::vector<std::vector<int>>{{}, {1}, {1, 2}}) {
      ChainOptions options;
      options.cuts = cuts;
      EXPECT_EQ(LogitsOf(file, Apart(options)), wanted) << cuts.size() << " cuts";
      EXPECT_EQ(LogitsOf(file, Apart(options), 5), wanted) << cuts.size() << " cuts, chunks";
    }
  }
}

// They are an argument of an op, which it reads on the host.
TEST(ApartDevice, DivisorsOfRopeAnglesStayOnTheHost) {
  TinyModelSpec spec = SpecOf("llama");
  spec.rope_freqs = true;
  const TempFile file(TinyModel(spec));
  const TempFile plain(TinyModel(SpecOf("llama")));
  const Logits wanted = LogitsOf(file, {});
  EXPECT_NE(LogitsOf(plain, {}), wanted);
  EXPECT_EQ(LogitsOf(file, Apart()), wanted);
}

TEST_P(ApartStage, GeneratesTheTokensOfTheHost) {
  const TempFile file(TinyModel(SpecOf(GetParam())));
  const auto wanted = StageChain(file.path(), {}).Generate(SeqId{1}, kTokens, 12);
  EXPECT_EQ(StageChain(file.path(), Apart()).Generate(SeqId{1}, kTokens, 12), wanted);
}

// Of logits that are apart only the best come to the host, where they are enough.
TEST(ApartDevice, SamplesTheTokensOfTheHostFromTheBestLogits) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const auto n_prompt = static_cast<int32_t>(kTokens.size());
  const auto first = StageChain(file.path(), {}).Generate(SeqId{1}, kTokens, 2);
  const model::SamplingParams cases[] = {
      {.temperature = 0},
      {.temperature = 0.9f, .top_k = 5, .seed = 3},
      {.temperature = 1.5f, .top_p = 0.9f, .top_k = 50, .min_p = 0.01f, .seed = 4},
      {.temperature = 0, .banned_ids = {first[0]}},
      {.temperature = 1, .top_k = 3, .seed = 5, .banned_ids = {first[0], 7}},
      {.temperature = 1, .seed = 6},                // all logits
      {.temperature = 1, .top_k = 200, .seed = 6},  // more than are fetched
      {.temperature = 1, .top_k = 9, .frequency_penalty = 1, .seed = 6}};
  for (const model::SamplingParams& params : cases) {
    for (const int min_tokens : {0, 3}) {
      const proto::SequenceStart start{params, n_prompt, min_tokens, {first[0], first[1]}};
      const auto wanted = StageChain(file.path(), {}).Generate(SeqId{1}, kTokens, 8, start);
      ChainOptions apart = Apart();
      apart.records_logits = false;
      EXPECT_EQ(StageChain(file.path(), apart).Generate(SeqId{1}, kTokens, 8, start), wanted);
    }
  }
}

TEST(ApartDevice, ModesOfTheFfnGiveTheBitsOfTheHost) {
  TinyModelSpec predicted = SpecOf("llama");
  predicted.dialect = GgufDialect::kPowerInfer;
  const struct {
    TinyModelSpec spec;
    FfnModes modes;
  } cases[] = {{SpecOf("arcee"), FfnMode::kExact},
               {SpecOf("arcee", DType::kQ4_0), FfnMode::kExact},
               {SpecOf("nemotron"), FfnMode::kExact},
               {predicted, FfnMode::kPredicted}};
  for (const auto& [spec, modes] : cases) {
    const TempFile file(TinyModel(spec));
    ChainOptions options;
    options.ffn = {modes, true};
    const Logits wanted = LogitsOf(file, options);
    EXPECT_EQ(LogitsOf(file, Apart(options)), wanted) << spec.arch;
    EXPECT_EQ(LogitsOf(file, Apart(options), 1), wanted) << spec.arch;
  }
}

TEST(ApartDevice, ModesAreChosenByTheDevicesTime) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  ChainOptions options;
  options.ffn.down_by_neuron = true;
  const Logits wanted = LogitsOf(file, options);
  options.ffn.modes.Add(FfnMode::kExact);
  StageChain chain(file.path(), Apart(options));
  // Enough steps for both modes to be tried, and each judged now and then.
  EXPECT_EQ(chain.Logits(SeqId{1}, kTokens, 1), wanted);
  EXPECT_EQ(chain.Logits(SeqId{2}, kTokens, 1), wanted);
  EXPECT_FALSE(chain.last().FfnText().empty());
}

TEST(ApartDevice, ABatchOfSequencesGivesEachTheBitsItHasAlone) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const Logits alone = LogitsOf(file, {});
  StageChain together(file.path(), Apart());
  proto::StepBatch batch = OneEntry(SeqId{7}, 0, {9, 8, 7, 6, 5, 4}, true, 6);
  batch.entries.push_back(OneEntry(SeqId{8}, 0, kTokens, false, 21).entries.front());
  ASSERT_TRUE(together.Run(batch).ok());
  for (size_t i = 0; i < kTokens.size(); ++i) {
    EXPECT_EQ((together.logits().rows[{SeqId{8}, static_cast<int64_t>(i)}]), alone[i]) << i;
  }
}

TEST(ApartDevice, HalfPrecisionPagesGiveTheBitsOfTheHost) {
  const TempFile file(TinyModel(SpecOf("llama")));
  ChainOptions options;
  options.kv_dtype = DType::kF16;
  EXPECT_EQ(LogitsOf(file, Apart(options), 5), LogitsOf(file, options));
}

// Sums up what it sees, by op.
class SumObserver final : public OpObserver {
 public:
  void OnOp(const LoweredOp& op, TensorView input, TensorView output) override {
    for (const TensorView& view : {input, output}) {
      if (view.empty() || op.kind == model::OpKind::kSelectActive) continue;
      // Columns of neurons that are not active hold anything.
      if (op.kind == model::OpKind::kNeurons || op.kind == model::OpKind::kAxpyRows) continue;
      for (int64_t i = 0; i < view.n_rows; ++i) {
        for (int64_t j = 0; j < view.n_cols; ++j) sums[op.kind] += view.f32_row(i)[j];
      }
    }
  }
  std::map<model::OpKind, double> sums;
};

TEST(ApartDevice, AnObserverSeesCopiesOfTheValues) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  SumObserver here, there;
  ChainOptions options;
  options.ffn = {FfnMode::kExact, true};
  options.observer = &here;
  LogitsOf(file, options);
  options.observer = &there;
  LogitsOf(file, Apart(options));
  EXPECT_GT(here.sums.size(), 5u);
  EXPECT_EQ(there.sums, here.sums);
}

TEST(ApartDevice, FiringNeuronsAreCountedAsOnTheHost) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  ChainOptions options;
  options.ffn = {FfnMode::kExact, true};
  std::vector<std::vector<uint32_t>> counts[2];
  for (const bool is_apart : {false, true}) {
    StageChain chain(file.path(), is_apart ? Apart(options) : options);
    FiringCounter counter(chain.last().shard(), {0, kLayers, true, true});
    chain.last().set_firing(&counter);
    // One step in eight is looked at, and a report wants eight looks; one more collects the last.
    for (uint64_t seq = 1; seq <= 4; ++seq) chain.Logits(SeqId{seq}, kTokens, 1);
    const Status told = counter.Report({}, TimePoint{} + std::chrono::hours(1), [&](const auto& m) {
      counts[is_apart].push_back(std::get<proto::FiringCounts>(m).counts);
      return OkStatus();
    });
    ASSERT_TRUE(told.ok());
  }
  EXPECT_EQ(counts[0].size(), static_cast<size_t>(kLayers));
  EXPECT_EQ(counts[1], counts[0]);
}

// ---- Shared stages

std::vector<std::vector<NeuronRange>> Everywhere(const std::vector<NeuronRange>& ranges) {
  std::vector<std::vector<NeuronRange>> members;
  for (const NeuronRange& range : ranges) members.emplace_back(kLayers, range);
  return members;
}

TEST(ApartDevice, LeadsAndHelpersGiveTheBitsOfTheHost) {
  const auto apart = [] { return testing::MakeApartDevice(); };
  for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
    const TempFile file(TinyModel(SpecOf("arcee")));
    for (const auto& members :
         {Everywhere({{0, 64}, {64, 128}}), Everywhere({{40, 90}, {0, 40}, {90, 128}})}) {
      SharedStageOptions options{.modes = mode, .members = members};
      const Logits wanted = SharedStage(file.path(), options).Logits({1}, kTokens, 64);
      for (const bool shares_heads : {false, true}) {
        options.make_lead_device = options.make_helper_device = nullptr;
        if (shares_heads) {
          options.heads.resize(members.size());
          options.heads[0] = {1, 2};
          options.heads[1] = {0, 1};
        }
        options.make_lead_device = apart;
        EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, 64), wanted) << "lead";
        EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, 1), wanted) << "lead by 1";
        options.make_helper_device = apart;
        EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, 4), wanted) << "both";
        options.make_lead_device = nullptr;
        EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, 64), wanted) << "helper";
      }
    }
  }
}

// ---- What a worker says of it

TEST(ApartDevice, IsMeasuredByItsOwnOpsInItsOwnMemory) {
  const auto device = testing::MakeApartDevice({.memory_bytes = 64 << 20});
  const auto measured =
      MeasureWorker(*device, {.n_threads = 1, .memory_bytes = 1 << 20, .time = Duration{1}});
  ASSERT_TRUE(measured.ok()) << measured.status();
  const placement::WorkerProfile& profile = *measured;
  for (const placement::Figure& figure :
       {profile.read_bytes_per_s, profile.gather_bytes_per_s, profile.op_overhead_s}) {
    EXPECT_EQ(figure.origin, placement::Origin::kMeasured);
    EXPECT_GT(figure.value, 0);
  }
  EXPECT_GE(profile.weight_rates.size(), 8u * 9u);
  EXPECT_EQ(profile.compute_rates.size(), 8u * 4u);
  EXPECT_EQ(device->memory().free_bytes, device->memory().total_bytes);
}

TEST(ApartDevice, ThatIsLostOrFullWhileItIsMeasuredIsNamed) {
  const ProfilerOptions options{.n_threads = 1, .memory_bytes = 1 << 20, .time = Duration{1}};
  for (const int64_t lost_after : {5, 150}) {
    const auto lost = testing::MakeApartDevice({.lost_after = lost_after});
    const Status status = MeasureWorker(*lost, options).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_NE(status.message().find(lost->name()), std::string::npos) << status;
  }
  const auto full = testing::MakeApartDevice({.memory_bytes = 3 << 20});
  const Status status = MeasureWorker(*full, options).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find(full->name()), std::string::npos) << status;
}

TEST(ApartDevice, OffersWhatTheBudgetLeaves) {
  const auto device = testing::MakeApartDevice({.memory_bytes = 100 << 20});
  const Buffer taken = *device->Allocate(10 << 20);
  constexpr uint64_t kLost = 7 * 255;  // of seven pieces, each of which ends at 256 bytes
  EXPECT_EQ(*MemoryToOffer(*device, {.bytes = 50 << 20}), (uint64_t{40} << 20) - kLost);
  EXPECT_EQ(*MemoryToOffer(*device, {.bytes = uint64_t{1} << 40}), (uint64_t{90} << 20) - kLost)
      << "no more than is free";
  EXPECT_LT(*MemoryToOffer(*device, {}), uint64_t{90} << 20);
  EXPECT_GT(*MemoryToOffer(*device, {}), uint64_t{80} << 20);
  EXPECT_EQ(*MemoryToOffer(*device, {.bytes = 50 << 20, .nccl_bytes = 30 << 20}),
            (uint64_t{10} << 20) - kLost);
  const auto nothing = MemoryToOffer(*device, {.bytes = 10 << 20});
  EXPECT_EQ(nothing.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(nothing.status().message().find("10.0 MiB"), std::string::npos) << nothing.status();
}

// What is kept free for NCCL is needed too, whether there is a budget or not.
TEST(ApartDevice, SaysWhatABudgetThatIsTooSmallLacks) {
  const auto device = testing::MakeApartDevice({.memory_bytes = 100 << 20});
  const Buffer taken = *device->Allocate(10 << 20);
  const Status status =
      MemoryToOffer(*device, {.bytes = 60 << 20, .nccl_bytes = 50 << 20}).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "--gpu-memory leaves nothing on " + device->name() +
                ": budget=60.0 MiB needs_more_than=60.0 MiB taken=10.0 MiB "
                "for_nccl=50.0 MiB total=100.0 MiB; --nccl off does without the part for "
                "NCCL");
  const Status full = MemoryToOffer(*device, {.nccl_bytes = 90 << 20}).status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(full.message().find("no memory is left on " + device->name()), 0u) << full;
}

TEST(ApartDevice, SaysWhatItHoldsAndWhatTheRestIsFor) {
  const auto device = testing::MakeApartDevice({.memory_bytes = 100 << 20});
  const Buffer taken = *device->Allocate(10 << 20);
  EXPECT_EQ(HoldingsText(*device, {.budget_bytes = 50 << 20, .graph_bytes = 3 << 20}),
            device->name() +
                " holds 10.0 MiB of the 50.0 MiB that it may use, 3.0 MiB are kept "
                "free for graphs");
  EXPECT_EQ(HoldingsText(*device, {.graph_bytes = 3 << 20, .nccl_bytes = 20 << 20}),
            device->name() +
                " holds 10.0 MiB of its 100.0 MiB, 3.0 MiB are kept free for graphs, "
                "20.0 MiB for NCCL");
}

TEST(ApartDevice, WeightsTakeNoMoreThanTheirBytes) {
  TinyModelSpec spec = SpecOf("llama", DType::kQ8_0);
  spec.n_layer = 8;
  const TempFile file(TinyModel(spec));
  const auto model = OpenModel(file.path());
  const auto device = testing::MakeApartDevice();
  const auto shard = Shard::Load(model->source(), {0, 8, true, true}, {}, *device, IgnoreProgress);
  ASSERT_TRUE(shard.ok());
  const uint64_t taken = device->memory().total_bytes - device->memory().free_bytes;
  // Each of the tensors, some 75, may end 512 bytes later.
  EXPECT_GE(taken, shard->report().owned_bytes);
  EXPECT_LE(taken, shard->report().owned_bytes + 80 * 512);
}

TEST(ApartMemory, PiecesGivenBackAreUsedAgain) {
  const auto device = testing::MakeApartDevice();
  ApartMemory memory;
  ASSERT_TRUE(memory.Reserve(3 * 1024, *device).ok());
  std::byte* const a = *memory.Take(1024, *device);
  std::byte* const b = *memory.Take(1000, *device);
  std::byte* const c = *memory.Take(1024, *device);
  EXPECT_EQ(memory.size_bytes(), 3u * 1024);
  memory.Free(b);
  EXPECT_EQ(*memory.Take(512, *device), b);
  EXPECT_EQ(*memory.Take(512, *device), b + 512);
  std::byte* const d = *memory.Take(512, *device);
  EXPECT_EQ(memory.size_bytes(), 3u * 1024 + 512);
  memory.KeepOnly({a, c});
  EXPECT_TRUE(memory.Holds(a));
  EXPECT_FALSE(memory.Holds(d));
  EXPECT_EQ(memory.size_bytes(), 3u * 1024);
  memory.Free(a);
  memory.Free(c);
  EXPECT_EQ(device->memory().free_bytes, device->memory().total_bytes);
}

TEST(ApartDevice, AHopCopiesBothWays) {
  const auto device = testing::MakeApartDevice();
  const auto taken = [&] { return device->memory().total_bytes - device->memory().free_bytes; };
  DeviceHop hop(*device, 4096);
  EXPECT_EQ(taken(), 0u);
  ASSERT_TRUE(hop.Prepare().ok());
  const uint64_t taken_once = taken();
  EXPECT_GE(taken_once, 4096u);
  for (const uint64_t n_bytes : {0, 100, 1 << 20}) {
    ASSERT_TRUE(hop.Prepare().ok());
    EXPECT_TRUE(hop.Out(n_bytes).ok());
    EXPECT_TRUE(hop.In(n_bytes).ok());
  }
  EXPECT_EQ(taken(), taken_once) << "its buffers are made once";
}

TEST(ApartDevice, AHopWithoutMemorySaysSo) {
  const auto device = testing::MakeApartDevice({.memory_bytes = 1024});
  DeviceHop hop(*device, 4096);
  EXPECT_EQ(hop.Prepare().code(), StatusCode::kResourceExhausted);
}

// ---- What goes wrong

TEST(ApartDevice, TooLittleMemoryIsAnErrorThatSaysSo) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const auto model = OpenModel(file.path());
  const auto device = testing::MakeApartDevice({.memory_bytes = 1 << 16});
  StageOptions options;
  options.layers = {0, kLayers, true, true};
  options.kv.n_pages = 8;
  const auto stage = Stage::Create(model->source(), options, *device, nullptr, IgnoreProgress);
  EXPECT_EQ(stage.status().code(), StatusCode::kResourceExhausted) << stage.status();
}

TEST(ApartDevice, AllItsMemoryComesBack) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const auto model = OpenModel(file.path());
  const auto device = testing::MakeApartDevice();
  StageOptions options;
  options.layers = {0, kLayers, true, true};
  options.kv.n_pages = 8;
  {
    const auto stage = Stage::Create(model->source(), options, *device, nullptr, IgnoreProgress);
    ASSERT_TRUE(stage.ok());
    EXPECT_LT(device->memory().free_bytes, device->memory().total_bytes);
  }
  EXPECT_EQ(device->memory().free_bytes, device->memory().total_bytes);
}

TEST(ApartDevice, ALostDeviceEndsTheStepAndIsNamed) {
  const TempFile file(TinyModel(SpecOf("llama")));
  // In the first layer; at the head; in a later step.
  for (const int64_t lost_after : {5, 40, 70}) {
    ChainOptions options;
    options.make_device = [&] { return testing::MakeApartDevice({.lost_after = lost_after}); };
    StageChain chain(file.path(), options);
    Status status;
    for (int64_t i = 0; i < 4 && status.ok(); ++i) {
      status = chain.Run(OneEntry(SeqId{1}, i, {kTokens[static_cast<size_t>(i)]}, true, 1));
    }
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << lost_after;
    EXPECT_NE(status.message().find("apart cpu"), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace thermocline::worker
