// The bytes that placement counts for a graph are those that the ops read when they run it.
#include "placement/op_load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "model/ffn_policy.h"
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

}  // namespace
}  // namespace thermocline::worker
