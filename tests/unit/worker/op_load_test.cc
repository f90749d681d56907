// The bytes that placement counts for a graph are those that the ops read when they run it.
#include "placement/op_load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "model/ffn_policy.h"
#include "tests/support/shared_stage.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using placement::NeuronShare;
using placement::OpLoad;
using placement::StepShape;
using testing::ChainOptions;
using testing::GgufDialect;
using testing::OneEntry;
using testing::SharedStage;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModelSpec;

constexpr int kContext = 5;

// Sums over the graphs of a whole model. `all`: the neurons of every layer together, as traffic
// knows them; the layers are alike, so their loads are too.
double CountedBytes(const StageChain& chain, const FfnPlan& ffn, FfnMode mode,
                    const StepShape& step, const NeuronShare& all) {
  const LoadedModel& model = chain.model();
  const auto sum = [&](const model::Graph& graph, const StepShape& shape,
                       const NeuronShare& share) {
    double bytes = 0;
    for (const OpLoad& load : LoadsOf(graph, model.config, model.weights, shape)) {
      bytes += load.Bytes(share);
    }
    return bytes;
  };
  StepShape head = step;
  head.n_tokens = 1;
  double bytes = sum(model::BuildEmbedGraph(model.config), step, {}) +
                 sum(model::BuildHeadGraph(model.config, model.weights), head, {});
  NeuronShare share = all;
  const double n_layer = model.config.n_layer;
  share.active /= n_layer;
  share.selected /= n_layer;
  share.n = model.config.n_ff;
  for (int layer = 0; layer < model.config.n_layer; ++layer) {
    const model::FfnOptions options{mode, ffn.has_neuron_rows(),
                                    model.source().LayerSparsityOf(layer)};
    bytes += sum(BuildLayerGraph(model.config, model.weights, layer, options), step, share);
  }
  return bytes;
}

// Runs a step of `n_tokens` after kContext others.
void ExpectCounted(const TinyModelSpec& spec, FfnMode mode, int n_tokens) {
  const TempFile file(testing::TinyModel(spec));
  ChainOptions options;
  options.ffn = {mode, true};
  StageChain chain(file.path(), options);
  const std::vector<int32_t> first(kContext, 9);
  ASSERT_TRUE(chain.Run(OneEntry({1}, 0, first, false, kContext + n_tokens)).ok());
  const kernels::Traffic before = chain.traffic();
  std::vector<int32_t> tokens;
  for (int i = 0; i < n_tokens; ++i) tokens.push_back(17 + 31 * i);
  ASSERT_TRUE(chain.Run(OneEntry({1}, kContext, tokens, false, kContext + n_tokens)).ok());
  const kernels::Traffic read = chain.traffic() - before;

  const auto active = static_cast<double>(read.n_neurons_active);
  const auto all = static_cast<double>(read.n_neurons);
  const StepShape step{.n_tokens = n_tokens, .n_context = kContext};
  // The recorder wants the logits of every token; they are one pass over the head.
  EXPECT_DOUBLE_EQ(static_cast<double>(read.weight_bytes + read.kv_bytes),
                   CountedBytes(chain, options.ffn, mode, step, {all, all, active, 0}))
      << spec.arch << " " << model::FfnModeName(mode) << " tokens " << n_tokens;
}

TEST(OpLoad, CountsTheBytesThatOpsRead) {
  for (const char* arch : {"llama", "qwen2", "arcee", "nemotron", "bamboo", "opt"}) {
    TinyModelSpec spec{.arch = arch};
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      spec.dtype = dtype;
      for (const int n_tokens : {1, 3}) {
        ExpectCounted(spec, FfnMode::kDense, n_tokens);
        // Of bamboo's neurons more are read by the gate's word than are added in the end, which the
        // traffic does not tell apart.
        if (arch != std::string("bamboo") && arch != std::string("llama") &&
            arch != std::string("qwen2")) {
          ExpectCounted(spec, FfnMode::kExact, n_tokens);
        }
      }
    }
  }
}

TEST(OpLoad, CountsPredictorsAndTheRowsTheyName) {
  TinyModelSpec spec{.dialect = GgufDialect::kPowerInfer};
  spec.predictor_threshold = -std::numeric_limits<float>::infinity();  // every neuron
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ4_0}) {
    spec.dtype = dtype;
    for (const int n_tokens : {1, 3}) ExpectCounted(spec, FfnMode::kPredicted, n_tokens);
  }
}

// What the members of a shared stage read together, as the cost model counts it: the lead does what
// comes before the FFN, and each of them the FFN with its own neurons.
double CountedBytes(const SharedStage& stage, FfnMode mode, const StepShape& step,
                    const std::vector<std::vector<model::NeuronRange>>& members, double active) {
  const LoadedModel& model = stage.model();
  const auto loads = [&](const model::Graph& graph, const StepShape& shape) {
    return LoadsOf(graph, model.config, model.weights, shape);
  };
  StepShape head = step;
  head.n_tokens = 1;
  double bytes = 0;
  for (const OpLoad& load : loads(model::BuildEmbedGraph(model.config), step)) bytes += load.bytes;
  for (const OpLoad& load : loads(model::BuildHeadGraph(model.config, model.weights), head)) {
    bytes += load.bytes;
  }
  const double n_all = static_cast<double>(model.config.n_ff) * model.config.n_layer;
  for (int layer = 0; layer < model.config.n_layer; ++layer) {
    const auto at = static_cast<size_t>(layer);
    const model::Graph graph = BuildLayerGraph(model.config, model.weights, layer,
                                               {mode, true, model.source().LayerSparsityOf(layer)});
    const std::vector<OpLoad> ops = loads(graph, step);
    for (size_t m = 0; m < members.size(); ++m) {
      const auto n = static_cast<double>(members[m][at].size());
      if (n == 0) continue;
      // Bytes are linear in the active neurons, wherever they are.
      const NeuronShare share{n, n, active * n / n_all, 0};
      for (size_t op = m == 0 ? 0 : graph.ffn_begin; op < ops.size(); ++op) {
        bytes += ops[op].Bytes(share);
      }
    }
  }
  return bytes;
}

void ExpectCountedWhenShared(const TinyModelSpec& spec, FfnMode mode, int n_tokens) {
  const std::vector<std::vector<model::NeuronRange>> members = {
      {{0, 32}, {40, 128}}, {{32, 100}, {}}, {{100, 128}, {0, 40}}};
  const TempFile file(testing::TinyModel(spec));
  SharedStage stage(file.path(), {.modes = mode, .members = members});
  const auto run = [&](int64_t position, const std::vector<int32_t>& tokens) {
    return stage.lead().Run(OneEntry({1}, position, tokens, false, kContext + n_tokens), {});
  };
  ASSERT_TRUE(run(0, std::vector<int32_t>(kContext, 9)).ok());
  const kernels::Traffic before = stage.traffic();
  std::vector<int32_t> tokens;
  for (int i = 0; i < n_tokens; ++i) tokens.push_back(17 + 31 * i);
  ASSERT_TRUE(run(kContext, tokens).ok());
  const kernels::Traffic read = stage.traffic() - before;
  const StepShape step{.n_tokens = n_tokens, .n_context = kContext};
  const double counted =
      CountedBytes(stage, mode, step, members, static_cast<double>(read.n_neurons_active));
  // Whole bytes, but for shares of the active neurons that are no whole numbers.
  EXPECT_NEAR(static_cast<double>(read.weight_bytes + read.kv_bytes), counted, 1e-9 * counted)
      << spec.arch << " " << model::FfnModeName(mode) << " tokens " << n_tokens;
}

TEST(OpLoad, CountsTheBytesThatMembersOfASharedStageRead) {
  for (const char* arch : {"llama", "arcee", "nemotron", "opt"}) {
    TinyModelSpec spec{.arch = arch, .n_ff = 128};
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      spec.dtype = dtype;
      for (const int n_tokens : {1, 3}) {
        ExpectCountedWhenShared(spec, FfnMode::kDense, n_tokens);
        if (arch != std::string("llama")) ExpectCountedWhenShared(spec, FfnMode::kExact, n_tokens);
      }
    }
  }
}

TEST(OpLoad, CountsPredictorsOfMembersOfASharedStage) {
  TinyModelSpec spec{.dialect = GgufDialect::kPowerInfer, .n_ff = 128};
  spec.predictor_threshold = -std::numeric_limits<float>::infinity();  // every neuron
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    spec.dtype = dtype;
    for (const int n_tokens : {1, 3}) {
      ExpectCountedWhenShared(spec, FfnMode::kPredicted, n_tokens);
    }
  }
}

}  // namespace
}  // namespace thermocline::worker
