// Stages with helpers whose steps are replayed span by span have the bits of those whose ops are
// launched one by one, on the CUDA backend over the emulator.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/emulated_gpu.h"
#include "tests/support/random_steps.h"
#include "tests/support/shared_stage.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/stage.h"

namespace thermocline::worker {
namespace {

using kernels::cuda::EmulatorCounts;
using kernels::cuda::EmulatorOptions;
using model::FfnMode;
using model::NeuronRange;
using testing::DecodeStep;
using testing::Prompt;
using testing::RandomService;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr uint64_t kMuch = uint64_t{64} << 20;
constexpr int kLayers = 2;
constexpr int64_t kNeurons = 128;
using Steps = std::vector<proto::StepBatch>;
// By step, what the next stage would get.
using Activations = std::vector<std::vector<float>>;

TinyModelSpec SpecOf(const std::string& arch, DType dtype = DType::kF16) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = kLayers;
  spec.n_ff = static_cast<int>(kNeurons);
  spec.n_ctx = 1024;
  return spec;
}

// Helpers whose sums are some of x, so that another x shows. An answer comes when it is asked for
// the second time; after n_answers they are lost.
class Echoes final : public PartExchange {
 public:
  explicit Echoes(int n_answers) : n_left_(n_answers) {}

  Status SendX(PartKey key, TensorView x, const BatchRows&) override {
    Asked& asked = asked_[{key.step.value, key.layer_in_stage}];
    asked.x.assign(x.f32_row(0), x.f32_row(0) + x.n_rows * x.n_cols);
    asked.n_asked.clear();
    return OkStatus();
  }
  Result<bool> TryReceiveSums(PartKey key, int peer, kernels::SumsView sums) override {
    const auto found = asked_.find({key.step.value, key.layer_in_stage});
    if (found == asked_.end() || found->second.n_asked[peer]++ == 0) return false;
    if (--n_left_ < 0) return Unavailable("the helper is lost");
    for (size_t i = 0; i < found->second.x.size(); ++i) {
      sums.data[i] = static_cast<double>(found->second.x[i]) * 0.03 * peer;
    }
    return true;
  }

 private:
  struct Asked {
    std::vector<float> x;
    std::map<int, int> n_asked;  // by member
  };
  std::map<std::pair<uint64_t, int>, Asked> asked_;  // by step and layer
  int n_left_;
};

struct LeadOptions {
  FfnMode mode = FfnMode::kDense;
  uint64_t graph_bytes = kMuch;
  int n_under_way = 1;
  int n_answers = 1 << 30;
};

// The layers of a model as a stage whose first layer has two helpers and whose second has one.
class Lead {
 public:
  Lead(const LoadedModel& model, kernels::Device& device, const LeadOptions& options)
      : options_(options), helpers_(options.n_answers) {
    StageOptions stage;
    stage.layers = {0, model.config.n_layer, true, false};
    stage.ffn = {.modes = options.mode,
                 .neurons = {NeuronRange{0, 64}, NeuronRange{32, 96}},
                 .n_helpers = {2, 1}};
    stage.kv.n_pages = 256;
    stage.max_step_tokens = 64;
    stage.graph_bytes = options.graph_bytes;
    auto created = Stage::Create(model.source(), stage, device, nullptr, IgnoreProgress);
    EXPECT_TRUE(created.ok()) << created.status();
    stage_ = std::move(created).value();
    stage_->set_exchange(&helpers_);
  }

  // Until all are done, or one fails.
  Status Run(const Steps& steps, Activations* activations) {
    size_t begun = 0;
    for (size_t ended = 0; ended < steps.size();) {
      while (begun < steps.size() && stage_->n_under_way() < options_.n_under_way &&
             stage_->CanBegin(steps[begun])) {
        TC_RETURN_IF_ERROR(stage_->Begin(steps[begun++], {}));
      }
      TC_ASSIGN_OR_RETURN(const bool is_done, stage_->Advance());
      if (!is_done) continue;
      const TensorView x = stage_->activation();
      activations->emplace_back(x.f32_row(0), x.f32_row(0) + x.n_rows * x.n_cols);
      stage_->Finish();
      ++ended;
    }
    return OkStatus();
  }
  Activations Run(const Steps& steps) {
    Activations activations;
    const Status status = Run(steps, &activations);
    EXPECT_TRUE(status.ok()) << status;
    return activations;
  }
  const StepGraphs& graphs() const { return *stage_->graphs(); }
  Stage& stage() { return *stage_; }

 private:
  const LeadOptions options_;
  Echoes helpers_;
  std::unique_ptr<Stage> stage_;
};

// A model and a card for it.
struct Place {
  explicit Place(const TinyModelSpec& spec, const EmulatorOptions& emulator = {})
      : file(TinyModel(spec)), device(testing::EmulatedGpuOf(emulator)) {
    auto opened = OpenModel(file.path());
    EXPECT_TRUE(opened.ok()) << opened.status();
    model = std::move(opened).value();
  }
  Activations Plain(const Steps& steps, LeadOptions options = {}) {
    options.graph_bytes = 0;
    return Lead(model, *device, options).Run(steps);
  }

  TempFile file;
  std::unique_ptr<kernels::Device> device;
  LoadedModel model;
};

// A prompt for each sequence, then steps of one token of each.
Steps Decode(uint64_t n_sequences, int n_steps) {
  Steps steps;
  std::map<uint64_t, int64_t> live;
  for (uint64_t seq = 1; seq <= n_sequences; ++seq) {
    steps.push_back(Prompt(seq, 0, 3));
    live[seq] = 3;
  }
  for (int i = 0; i < n_steps; ++i) {
    steps.push_back(DecodeStep(live));
    for (auto& [seq, position] : live) ++position;
  }
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = StepId{i + 1};
  return steps;
}

TEST(SpanGraphs, AServiceHasTheSameBitsWithAndWithoutThem) {
  const struct {
    const char* arch;
    DType dtype;
    FfnMode mode;
  } cases[] = {{"llama", DType::kF16, FfnMode::kDense},
               {"arcee", DType::kQ8_0, FfnMode::kExact},
               {"opt", DType::kF16, FfnMode::kExact}};
  uint32_t seed = 1;
  for (const auto& test : cases) {
    Place place(SpecOf(test.arch, test.dtype), {.n_multiprocessors = 1000});
    const LeadOptions options{.mode = test.mode};
    const Steps steps = RandomService(seed++, 4);
    Lead replaying(place.model, *place.device, options);
    EXPECT_TRUE(replaying.Run(steps) == place.Plain(steps, options)) << test.arch;
    EXPECT_GT(replaying.graphs().n_span_replays(), 10) << test.arch;
    EXPECT_EQ(replaying.graphs().n_replays(), 0);
  }
}

// Batches of different sequences in the stage at the same time, whose spans alternate; two of them
// differ in nothing but where their rows lie.
TEST(SpanGraphs, SeveralBatchesAreReplayedBesideEachOther) {
  Place place(SpecOf("arcee"));
  Steps steps;
  for (uint64_t seq = 1; seq <= 4; ++seq) steps.push_back(Prompt(seq, 0, 2));
  for (int64_t at = 2; at < 12; ++at) {
    steps.push_back(DecodeStep({{1, at}}));
    steps.push_back(DecodeStep({{2, at}}));
    steps.push_back(DecodeStep({{3, at}, {4, at}}));
  }
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = StepId{i + 1};
  const LeadOptions options{.mode = FfnMode::kExact, .n_under_way = 3};
  Lead replaying(place.model, *place.device, options);
  EXPECT_TRUE(replaying.Run(steps) == place.Plain(steps, {.mode = FfnMode::kExact}));
  // Of three batches, in each layer a span before x is sent and one behind it.
  EXPECT_GT(replaying.graphs().n_span_replays(), 3 * 5 * 2 * kLayers);
}

TEST(SpanGraphs, AnotherShapeIsMadeAnew) {
  Place place(SpecOf("arcee"));
  Steps steps = Decode(2, 6);
  for (int64_t at = 3; at < 11; ++at) steps.push_back(DecodeStep({{2, at + 6}}));
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = StepId{i + 1};
  const LeadOptions options{.mode = FfnMode::kExact};
  Lead replaying(place.model, *place.device, options);
  EXPECT_TRUE(replaying.Run(steps) == place.Plain(steps, options));
  EXPECT_EQ(replaying.graphs().n_graphs(), 2 * 2 * kLayers);
}

// Wherever in a step that is, the card has nothing half recorded: the next plan's stage goes on.
TEST(SpanGraphs, ALostHelperLeavesNothingBehind) {
  Place place(SpecOf("arcee"));
  const Steps steps = Decode(1, 9);
  const Activations wanted = place.Plain(steps);
  const uint64_t free_bytes = place.device->memory().free_bytes;
  for (int n_answers = 12; n_answers < 22; ++n_answers) {
    {
      Lead losing(place.model, *place.device, {.n_answers = n_answers});
      Activations some;
      EXPECT_EQ(losing.Run(steps, &some).code(), StatusCode::kUnavailable);
      EXPECT_EQ(some.size(), static_cast<size_t>(n_answers / 3));
    }
    EXPECT_EQ(place.device->memory().free_bytes, free_bytes) << n_answers;
    Lead next(place.model, *place.device, {});
    EXPECT_TRUE(next.Run(steps) == wanted) << n_answers;
    EXPECT_GT(next.graphs().n_span_replays(), 0);
  }
}

TEST(SpanGraphs, KeepWithinTheirMemory) {
  Place place(SpecOf("llama"), {.recorded_launch_bytes = kAssumedLaunchBytes});
  const Steps steps = Decode(1, 12);
  const Activations wanted = place.Plain(steps);
  for (const uint64_t limit : {uint64_t{1} << 18, uint64_t{1} << 20, uint64_t{3} << 19}) {
    Lead lead(place.model, *place.device, {.graph_bytes = limit});
    const uint64_t free_bytes = place.device->memory().free_bytes;
    EXPECT_TRUE(lead.Run(steps) == wanted) << limit;
    EXPECT_GE(place.device->memory().free_bytes + limit, free_bytes) << limit;
    EXPECT_LT(lead.graphs().n_graphs(), 2 * kLayers) << "else the test shows nothing";
  }
}

// What the host puts into the card's queue for a step.
TEST(SpanGraphs, AStepIsAFewLaunches) {
  EmulatorCounts counts;
  Place place(SpecOf("arcee"), {.counts = &counts});
  const LeadOptions options{.mode = FfnMode::kExact};
  const auto count = [&](uint64_t graph_bytes) {
    LeadOptions own = options;
    own.graph_bytes = graph_bytes;
    Lead lead(place.model, *place.device, own);
    Steps steps = Decode(1, 9);
    const proto::StepBatch last = std::move(steps.back());
    steps.pop_back();
    (void)lead.Run(steps);
    counts = {};
    (void)lead.Run({last});
    return counts;
  };
  const EmulatorCounts plain = count(0), replayed = count(kMuch);
  EXPECT_EQ(plain.n_replays, 0);
  EXPECT_EQ(replayed.n_replays, 2 * kLayers);
  // The embedding, and in each layer the sums: with one helper two launches, with two three.
  EXPECT_EQ(replayed.n_launches, 1 + 3 + 2);
  EXPECT_GT(plain.n_launches, 4 * (replayed.n_replays + replayed.n_launches) / 2);
  // Page tables and positions go there once for all layers, in one piece.
  EXPECT_LT(replayed.n_copies, plain.n_copies);
  RecordProperty("plain", static_cast<int>(plain.n_launches));
  RecordProperty("plain_copies", static_cast<int>(plain.n_copies));
  RecordProperty("replayed", static_cast<int>(replayed.n_launches + replayed.n_replays));
  RecordProperty("replayed_copies", static_cast<int>(replayed.n_copies));
}

// Heads of attention at others: a send before them, too.
TEST(SpanGraphs, StagesThatShareHeadsAreReplayed) {
  TinyModelSpec spec = SpecOf("arcee", DType::kQ8_0);
  spec.n_embd = 128, spec.n_head = 8, spec.n_head_kv = 4, spec.n_ff = 192;
  const TempFile file(TinyModel(spec));
  SharedStageOptions options{.modes = FfnMode::kExact,
                             .members = {{kLayers, NeuronRange{0, 64}},
                                         {kLayers, NeuronRange{64, 192}},
                                         {kLayers, NeuronRange{}}},
                             .heads = {{1, 2}, {0, 1}, {2, 4}}};
  options.make_lead_device = options.make_helper_device = testing::EmulatedGpu;
  const std::vector<int32_t> tokens = {5, 17, 42, 260, 8, 99, 3, 7, 12};
  const auto wanted = SharedStage(file.path(), options).Logits({1}, tokens, 1);
  options.graph_bytes = kMuch;
  SharedStage replaying(file.path(), options);
  EXPECT_EQ(replaying.Logits({1}, tokens, 1), wanted);
  EXPECT_GT(replaying.lead().graphs()->n_span_replays(), 0);
}

}  // namespace
}  // namespace thermocline::worker
