// In which layers of a CPU's stage a GPU is given neurons: those whose FFN takes the CPU longer
// than the way to the GPU and back.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "model/graph.h"
#include "placement/context.h"
#include "placement/forecast.h"
#include "placement/model_bytes.h"
#include "placement/overhead.h"
#include "placement/planner.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 4;
constexpr int kNeurons = 512;
constexpr int kEmbd = 64;
constexpr int kContext = 1 << 15;
constexpr WorkerId kCpu{1}, kGpu{2};
// By layer, in no order, so that neither end of the model is favoured.
constexpr double kFires[kLayers] = {1.0 / 3, 1, 0, 2.0 / 3};
constexpr int kHottestFirst[kLayers] = {1, 3, 0, 2};
// A layer takes tens of milliseconds, which leaves latencies of links far above all else they cost.
constexpr double kCpuBytesPerS = 1e7;
constexpr double kGpuBytesPerS = 50 * kCpuBytesPerS;

const TinyModelParts& Arcee() {
  static const TinyModelParts parts = MakeTinyModelParts(
      {.arch = "arcee", .n_layer = kLayers, .n_embd = kEmbd, .n_ff = kNeurons, .n_ctx = kContext});
  return parts;
}

// That the CPU takes for all neurons of the layer, F32: ffn_up whole, ffn_down where they fire.
double FfnSeconds(int layer) {
  return kNeurons * (1 + kFires[layer]) * kEmbd * sizeof(float) / kCpuBytesPerS;
}

// By layer: what the GPU holds, in heat order; the CPU holds the rest.
using GpuParts = std::vector<NeuronRange>;

GpuParts GpuPartsOf(const Plan& plan) {
  const StagePlan& stage = plan.stages[0];
  return stage.is_split() ? stage.helpers[0].neurons : GpuParts(kLayers);
}

class PlannerGpuLayersTest : public ::testing::Test {
 protected:
  PlannerGpuLayersTest() {
    for (const double fires : kFires) heats_.push_back(NeuronHeat::Uniform(kNeurons, fires));
    options_.request.ffn = model::FfnMode::kExact;
    options_.request.n_ctx = kContext;
    options_.request.n_parallel = 1;
    options_.request.max_step_tokens = 16;
  }

  // The card can only help.
  void CpuAndGpu(double one_way_s) {
    cluster_.workers = {Worker(kCpu, kGiB, kCpuBytesPerS),
                        Gpu(HelpersBytes(Holder::kCard), kGpuBytesPerS)};
    cluster_.links = {Link(kCpu, kGpu, one_way_s), Link(kGpu, kCpu, one_way_s)};
  }
  // With room for every neuron, but not for the KV of a single layer besides: it cannot lead.
  uint64_t HelpersBytes(Holder holder) const {
    const model::FfnModes ffn = options_.request.ffn;
    KvBudget kv = options_.request.kv;
    kv.n_pages = PagesOf(kContext, kv.page_tokens);
    const OverheadModel overhead(model_.config, model_.weights, ffn,
                                 options_.request.max_step_tokens, kv.n_pages);
    uint64_t neurons = 0;
    const ModelBytes bytes = ModelBytes::Of(model_.config, model_.weights, ffn);
    for (int l = 0; l < kLayers; ++l) neurons += bytes.Neurons(l, {0, kNeurons}).sum();
    const uint64_t needed = overhead.MostOfHelper(kLayers, holder) + neurons;
    for (int l = 0; l < kLayers; ++l) {
      const model::LayerRange one{l, l + 1, l == 0, l == kLayers - 1};
      const uint64_t to_lead = KvBytes(model_.config, kv, one, {0, model_.config.n_head_kv}) +
                               overhead.MostOfLead(one, 0, holder);
      EXPECT_LT(needed, to_lead) << "layer " << l;
    }
    return needed;
  }
  static WorkerProfile Gpu(uint64_t memory_bytes, double bytes_per_s) {
    WorkerProfile gpu = Worker(kGpu, memory_bytes, bytes_per_s);
    gpu.gpus = {{.name = "card"}};
    gpu.gpu = 0;
    gpu.op_overhead_s = Figure::Measured(1e-6);
    return gpu;
  }
  static WorkerProfile Worker(WorkerId id, uint64_t memory_bytes, double bytes_per_s) {
    return {.id = id,
            .host = "host",
            .memory_bytes = memory_bytes,
            .read_bytes_per_s = Figure::Measured(bytes_per_s),
            .gather_bytes_per_s = Figure::Measured(bytes_per_s),
            .op_overhead_s = Figure::Measured(0)};
  }
  static LinkProfile Link(WorkerId from, WorkerId to, double latency_s) {
    return {.from = from,
            .to = to,
            .latency_s = Figure::Measured(latency_s),
            .bytes_per_s = Figure::Measured(1e9),
            .message_s = Figure::Measured(1e-6)};
  }

  PlannerInputs Inputs() const {
    return {
        .config = model_.config, .weights = model_.weights, .heats = heats_, .cluster = cluster_};
  }

  // Of a token, where the GPU holds these.
  double StepSeconds(const GpuParts& parts) const {
    Plan plan{.n_layer = kLayers};
    StagePlan& stage = plan.stages.emplace_back();
    stage = {.lead = kCpu, .layers = {0, kLayers, true, true}};
    const auto has_some = [](const NeuronRange& part) { return !part.empty(); };
    if (std::any_of(parts.begin(), parts.end(), has_some)) {
      stage.helpers.push_back({.worker = kGpu, .neurons = parts});
      for (const NeuronRange& part : parts) {
        stage.neurons.push_back(part.begin == 0 ? NeuronRange{part.end, kNeurons}
                                                : NeuronRange{0, part.begin});
      }
    }
    const auto whole =
        CompletePlan(plan, model_.config, model_.weights, cluster_, options_.request);
    EXPECT_TRUE(whole.ok()) << whole.status();
    const auto forecast = ForecastPlan(plan, Inputs(), options_);
    EXPECT_TRUE(forecast.ok()) << forecast.status();
    return forecast.ok() ? forecast->step_s : 0;
  }
  // The shortest step of those where the GPU has some of this layer, and elsewhere the same.
  double BestWithSomeOf(int layer, GpuParts parts) const {
    NeuronRange& part = parts[static_cast<size_t>(layer)];
    double best_s = std::numeric_limits<double>::infinity();
    for (int64_t cut = model::kSumChunk; cut < kNeurons; cut += model::kSumChunk) {
      for (const NeuronRange& some : {NeuronRange{0, cut}, NeuronRange{cut, kNeurons}}) {
        part = some;
        best_s = std::min(best_s, StepSeconds(parts));
      }
    }
    return best_s;
  }

  const TinyModelParts& model_ = Arcee();
  std::vector<NeuronHeat> heats_;
  ClusterProfile cluster_;
  PlannerOptions options_;
};

// For every number of layers that pay, from all to none.
TEST_F(PlannerGpuLayersTest, ItHasNeuronsOfExactlyTheLayersThatPayForTheWayThereAndBack) {
  for (int n_pay = 0; n_pay <= kLayers; ++n_pay) {
    SCOPED_TRACE(Str(n_pay, " layers pay"));
    // Half way between the coldest layer that pays and the hottest that does not.
    const double above_s = n_pay > 0 ? FfnSeconds(kHottestFirst[n_pay - 1]) : 3 * FfnSeconds(1);
    const double below_s = n_pay < kLayers ? FfnSeconds(kHottestFirst[n_pay]) : 0;
    CpuAndGpu((above_s + below_s) / 2 / 2);
    const auto planned = MakePlan(Inputs(), options_);
    ASSERT_TRUE(planned.ok()) << planned.status();
    ASSERT_EQ(planned->plan.stages.size(), 1u);
    ASSERT_EQ(planned->plan.stages[0].lead, kCpu);
    const GpuParts parts = GpuPartsOf(planned->plan);
    const double step_s = planned->forecast.step_s;
    EXPECT_NEAR(StepSeconds(parts), step_s, 1e-9 * step_s);
    for (int i = 0; i < kLayers; ++i) {
      const int layer = kHottestFirst[i];
      const bool pays = i < n_pay;
      EXPECT_EQ(!parts[static_cast<size_t>(layer)].empty(), pays) << "layer " << layer;
      // By the cost model: with some of the layer a token takes longer than without, or not.
      GpuParts without = parts;
      without[static_cast<size_t>(layer)] = {};
      const double with_s = BestWithSomeOf(layer, parts);
      const double without_s = StepSeconds(without);
      EXPECT_EQ(with_s < without_s, pays) << "layer " << layer;
      EXPECT_NEAR(step_s, std::min(with_s, without_s), 1e-9 * step_s) << "layer " << layer;
    }
  }
}

// The exception: what it computes of a layer there makes the token longer.
TEST_F(PlannerGpuLayersTest, OneThatLeadsHasABlockOfEveryLayerEvenWhereThatDoesNotPay) {
  const double slow = kCpuBytesPerS / 50;
  cluster_.workers = {Worker(kCpu, HelpersBytes(Holder::kProcess), kCpuBytesPerS), Gpu(kGiB, slow)};
  cluster_.links = {Link(kCpu, kGpu, 1e-6), Link(kGpu, kCpu, 1e-6)};
  const auto planned = MakePlan(Inputs(), options_);
  ASSERT_TRUE(planned.ok()) << planned.status();
  ASSERT_EQ(planned->plan.stages.size(), 1u);
  const StagePlan& stage = planned->plan.stages[0];
  ASSERT_EQ(stage.lead, kGpu);
  for (size_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_EQ(stage.neurons[layer].size(), model::kSumChunk) << "layer " << layer;
    EXPECT_GT(planned->forecast.stages[0].layers[layer].ffn_s,
              2 * FfnSeconds(static_cast<int>(layer)))
        << "the CPU alone would take less";
  }
}

}  // namespace
}  // namespace thermocline::placement
