// What stages hold of a card is what plans count for them, and plans give a card all that a budget
// leaves: on the CUDA backend over the emulator, which counts what is taken.
#include "worker/device_memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "placement/model_bytes.h"
#include "placement/overhead.h"
#include "placement/planner.h"
#include "tests/support/emulated_gpu.h"
#include "tests/support/sparse_model.h"
#include "worker/assignment.h"
#include "worker/device_hop.h"
#include "worker/held_weights.h"
#include "worker/helper_stage.h"
#include "worker/link_probe.h"
#include "worker/probe/op_warmup.h"
#include "worker/stage.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::HeadRange;
using model::NeuronRange;
using placement::Figure;
using placement::HelperPlan;
using placement::Holder;
using placement::StagePlan;
using testing::EmulatedGpuOf;
using testing::MakeSparseModel;
using testing::SparseModel;

constexpr WorkerId kCard{1}, kCpu{2};
constexpr int kLayers = 3;
constexpr int64_t kNeurons = 256;

uint64_t TakenOf(const kernels::Device& device) {
  const kernels::DeviceMemory memory = device.memory();
  return memory.total_bytes - memory.free_bytes;
}

// A card as it is when its worker says hello.
std::unique_ptr<kernels::Device> WarmCard() {
  auto card = EmulatedGpuOf({.memory_bytes = uint64_t{512} << 20});
  EXPECT_TRUE(RunEveryOp(*card, kFileWeightTypes).ok());
  return card;
}

// What a step loop holds of a card for its part of a plan.
struct LoadedPart {
  LoadedPart(const LoadedModel& model, const Assignment& own, kernels::Device& card)
      : hop(card, kLeastProbeBytes) {
    EXPECT_TRUE(hop.Prepare().ok());
    const proto::AssignPlan& message = own.message;
    const model::LayerRange& layers = own.stage().layers;
    if (own.is_helper()) {
      auto made = HelperStage::Create(model.source(),
                                      {layers, own.ffn(), message.max_step_tokens, message.plan.kv},
                                      card, IgnoreProgress);
      EXPECT_TRUE(made.ok()) << made.status();
      if (made.ok()) helper = *std::move(made);
      return;
    }
    auto made = Stage::Create(model.source(),
                              {.layers = layers,
                               .ffn = own.ffn(),
                               .kv = message.plan.kv,
                               .max_step_tokens = message.max_step_tokens},
                              card, nullptr, IgnoreProgress);
    EXPECT_TRUE(made.ok()) << made.status();
    if (made.ok()) stage = *std::move(made);
  }

  DeviceHop hop;
  std::unique_ptr<Stage> stage;
  std::unique_ptr<HelperStage> helper;
};

class DeviceMemory : public ::testing::Test {
 protected:
  void Open(const testing::TinyModelSpec& spec) {
    files_ = MakeSparseModel(spec, {.predictor_threshold = 0.1f, .activation_threshold = 0.1f});
    auto model = OpenModel(files_.model->path());
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    ASSERT_TRUE(AttachSparsityFile(files_.sparsity->path(), &model_).ok());
  }
  Assignment For(const placement::Plan& plan, model::FfnModes ffn, int helper) const {
    Assignment own;
    own.message.plan = plan;
    own.message.stage = 0;
    own.message.helper = helper;
    own.message.ffn = ffn;
    own.message.max_step_tokens = max_step_tokens_;
    return own;
  }
  // What the card holds more with its part of the plan, the first stage's lead or a helper of it.
  uint64_t Held(const placement::Plan& plan, model::FfnModes ffn, int helper) const {
    const auto card = WarmCard();
    const uint64_t before = TakenOf(*card);
    const LoadedPart part(model_, For(plan, ffn, helper), *card);
    return TakenOf(*card) - before;
  }
  // And what the plan counts.
  uint64_t Counted(const placement::Plan& plan, model::FfnModes ffn, int helper) const {
    const auto bytes = placement::ModelBytes::Of(model_.config, model_.weights, ffn);
    const placement::OverheadModel overhead(model_.config, model_.weights, ffn, max_step_tokens_,
                                            plan.kv.n_pages);
    const StagePlan& stage = plan.stages[0];
    const auto kv = [&](const HeadRange& heads) {
      return placement::KvBytes(model_.config, plan.kv, stage.layers, heads);
    };
    if (helper >= 0) {
      const HelperPlan& own = stage.helpers[static_cast<size_t>(helper)];
      const auto part = bytes.HelperPart(stage.layers, own.neurons, {}, own.heads);
      return part.sum() + kv(own.heads) + overhead.OfHelper(stage, own, Holder::kCard);
    }
    const auto part = stage.is_split()
                          ? bytes.LeadPart(stage.layers, stage.neurons, {}, stage.heads)
                          : bytes.WholePart(stage.layers);
    return part.sum() + kv(HeadsOf(stage, model_.config)) + overhead.OfLead(stage, Holder::kCard);
  }
  // Never more than counted; and no more is counted than what makes parts of matrices and lists.
  void Check(const placement::Plan& plan, model::FfnModes ffn, int helper,
             const std::string& what) const {
    constexpr uint64_t kSlack = 64 << 10;
    const uint64_t held = Held(plan, ffn, helper), counted = Counted(plan, ffn, helper);
    EXPECT_LE(held, counted) << what;
    EXPECT_LE(counted, held + kSlack) << what;
  }

  int max_step_tokens_ = 64;
  SparseModel files_;
  LoadedModel model_;
};

placement::Plan PlanOf(StagePlan stage) {
  placement::Plan plan{.n_layer = kLayers};
  plan.kv.n_pages = 40;
  plan.stages.push_back(std::move(stage));
  return plan;
}

StagePlan Shared(const model::LayerRange& layers, const std::vector<NeuronRange>& members) {
  const auto n_layers = static_cast<size_t>(layers.end - layers.begin);
  StagePlan stage{.lead = kCard, .layers = layers};
  stage.neurons.assign(n_layers, members.front());
  for (size_t m = 1; m < members.size(); ++m) {
    stage.helpers.push_back({.worker = {1 + m}});
    stage.helpers.back().neurons.assign(n_layers, members[m]);
  }
  return stage;
}

TEST_F(DeviceMemory, StagesHoldWhatPlansCount) {
  struct Case {
    testing::TinyModelSpec spec;
    model::FfnModes ffn;
  };
  const Case cases[] = {
      {{.arch = "llama", .dtype = DType::kF16}, FfnMode::kDense},
      {{.arch = "llama", .dtype = DType::kQ8_0, .tied = true}, FfnMode::kPredicted},
      {{.arch = "arcee", .dtype = DType::kF32}, FfnMode::kExact},
      {{.arch = "nemotron", .dtype = DType::kQ4_0}, FfnMode::kThresholded},
      {{.arch = "opt", .dtype = DType::kF16}, FfnMode::kPredicted}};
  const model::LayerRange ranges[] = {{0, kLayers, true, true},
                                      {0, 1, true, false},
                                      {1, 2, false, false},
                                      {2, kLayers, false, true}};
  for (Case each : cases) {
    each.spec.n_layer = kLayers;
    each.spec.n_ff = static_cast<int>(kNeurons);
    Open(each.spec);
    for (const model::LayerRange& layers : ranges) {
      const std::string what = each.spec.arch + " from " + std::to_string(layers.begin) +
                               (layers.has_head ? " head" : "");
      Check(PlanOf({.lead = kCard, .layers = layers}), each.ffn, -1, what + " alone");
      const auto plan = PlanOf(Shared(layers, {{0, 100}, {100, 192}, {192, kNeurons}}));
      Check(plan, each.ffn, -1, what + " leading");
      Check(plan, each.ffn, 0, what + " helping");
    }
  }
}

TEST_F(DeviceMemory, SharedHeadsAreCounted) {
  testing::TinyModelSpec spec{.n_layer = kLayers, .n_ff = static_cast<int>(kNeurons)};
  Open(spec);
  StagePlan stage = Shared({0, kLayers, true, true}, {{0, 64}, {64, kNeurons}});
  stage.heads = {0, 1};
  stage.helpers[0].heads = {1, 2};
  for (const int helper : {-1, 0}) {
    Check(PlanOf(stage), FfnMode::kDense, helper, helper < 0 ? "leading" : "helping");
  }
}

// Where a plan is followed by one with shorter lists, their room goes back.
TEST_F(DeviceMemory, ListsAreAsLongAsThePlanAtHandWants) {
  Open({.n_layer = kLayers, .n_head = 1, .n_head_kv = 1, .n_ctx = 64});
  const auto card = WarmCard();
  const uint64_t before = TakenOf(*card);
  ASSERT_TRUE(card->Prepare({.max_rows = 8192, .max_pages = 1 << 20, .head_dim = 64}).ok());
  const uint64_t longest = TakenOf(*card);
  EXPECT_GT(longest, before + (uint64_t{36} << 20));
  const auto plan = PlanOf({.lead = kCard, .layers = {0, kLayers, true, true}});
  const LoadedPart part(model_, For(plan, FfnMode::kDense, -1), *card);
  EXPECT_LE(TakenOf(*card) - before, Counted(plan, FfnMode::kDense, -1));
}

TEST_F(DeviceMemory, WhatPiecesTakeBeyondThemselvesIsNoneOfTheOffer) {
  const auto card = WarmCard();
  const uint64_t taken = TakenOf(*card), budget = uint64_t{64} << 20;
  EXPECT_EQ(*MemoryToOffer(*card, {.bytes = budget}), budget - taken - uint64_t{7} * 255);
  EXPECT_EQ(TakenOf(*card), taken);
}

// A card beside a CPU that is too slow to be given what the card has room for.
class PlannedCard : public DeviceMemory {
 protected:
  placement::ClusterProfile Cluster(uint64_t card_bytes) const {
    placement::ClusterProfile cluster;
    for (const WorkerId id : {kCard, kCpu}) {
      const bool is_card = id == kCard;
      const Figure rate = Figure::Measured(is_card ? 3e12 : 1e6);
      cluster.workers.push_back({.id = id,
                                 .host = "here",
                                 .memory_bytes = is_card ? card_bytes : 4 * kGiB,
                                 .read_bytes_per_s = rate,
                                 .gather_bytes_per_s = rate,
                                 .op_overhead_s = Figure::Measured(3e-6)});
      cluster.links.push_back({.from = id,
                               .to = is_card ? kCpu : kCard,
                               .latency_s = Figure::Measured(1e-5),
                               .bytes_per_s = Figure::Measured(1e10),
                               .message_s = Figure::Measured(0)});
    }
    cluster.workers[0].gpus = {{.name = "emulated"}};
    cluster.workers[0].gpu = 0;
    return cluster;
  }
};

// Plans give a lead a block of neurons less in each layer than it has room for, and keep scratch
// for all: little beside keys and values of so long a context.
constexpr int kContext = 16384;

TEST_F(PlannedCard, IsGivenAllThatItsBudgetLeavesAndNoMore) {
  for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact, FfnMode::kPredicted}) {
    testing::TinyModelSpec spec{.n_layer = 2, .n_ff = 2048, .n_ctx = kContext};
    if (mode == FfnMode::kExact) spec.arch = "arcee";
    Open(spec);
    max_step_tokens_ = 16;
    // Room for all but half a MiB, ten blocks of neurons of the 64.
    placement::Plan whole = PlanOf({.lead = kCard, .layers = {0, 2, true, true}});
    whole.kv.n_pages = kContext / whole.kv.page_tokens;
    const auto card = WarmCard();
    const uint64_t budget = TakenOf(*card) + Counted(whole, mode, -1) - (uint64_t{512} << 10);
    const auto offered = MemoryToOffer(*card, {.bytes = budget});
    ASSERT_TRUE(offered.ok()) << offered.status();
    const auto cluster = Cluster(*offered);
    const auto heats = placement::UniformHeats(model_.config, 0.1);
    placement::PlannerOptions options;
    options.request.ffn = mode;
    options.request.n_ctx = kContext;
    options.request.n_parallel = 1;
    options.request.max_step_tokens = max_step_tokens_;
    options.n_context = kContext / 2;  // which whoever leads reads: the card
    options.with_bound = false;
    const auto planned = placement::MakePlan({.config = model_.config,
                                              .weights = model_.weights,
                                              .sparsity = &model_.sparsity,
                                              .heats = heats,
                                              .cluster = cluster},
                                             options);
    ASSERT_TRUE(planned.ok()) << planned.status();
    const placement::Plan& plan = planned->plan;
    ASSERT_EQ(plan.stages.size(), 1u);
    ASSERT_EQ(plan.stages[0].lead, kCard);
    const LoadedPart part(model_, For(plan, mode, -1), *card);
    const auto taken = static_cast<double>(TakenOf(*card)), most = static_cast<double>(budget);
    EXPECT_LE(taken, most) << FfnModeName(mode);
    EXPECT_GE(taken, 0.98 * most) << FfnModeName(mode);
  }
}

}  // namespace
}  // namespace thermocline::worker
