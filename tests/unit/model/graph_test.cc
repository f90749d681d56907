#include "model/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "tests/support/tiny_model.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using testing::GgufImage;
using ::testing::HasSubstr;
using testing::TinyModelSpec;

constexpr FfnOptions kDense{};
constexpr FfnOptions kDenseByNeuron{FfnMode::kDense, true};
constexpr FfnOptions kExact{FfnMode::kExact, true};
constexpr FfnOptions kThresholded{FfnMode::kThresholded, true, {.activation_threshold = 0.25f}};
constexpr FfnOptions kPredicted{
    FfnMode::kPredicted,
    true,
    {.predictor = PredictorKind::kRelu, .n_hidden = 32, .predictor_threshold = 0.5f}};

struct Model {
  ModelConfig config;
  WeightIndex weights;
};

Model Load(const GgufImage& image) {
  const auto bytes = image.Bytes();
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "image"));
  EXPECT_TRUE(file.ok()) << file.status();
  const auto config = ModelConfig::FromGguf(*file);
  EXPECT_TRUE(config.ok()) << config.status();
  const auto weights = WeightIndex::Build(*config, *file);
  EXPECT_TRUE(weights.ok()) << weights.status();
  return {*config, *weights};
}

TinyModelSpec Spec(const std::string& arch, const std::string& activation = "") {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.activation = activation;
  return spec;
}

TinyModelSpec PowerInferSpec(const std::string& arch = "llama") {
  TinyModelSpec spec = Spec(arch);
  spec.dialect = GgufDialect::kPowerInfer;
  return spec;
}

std::vector<OpKind> Kinds(const Graph& graph) {
  std::vector<OpKind> kinds;
  for (const Op& op : graph.ops) kinds.push_back(op.kind);
  return kinds;
}

const Op& Last(const Graph& graph, OpKind kind) {
  const Op* found = nullptr;
  for (const Op& op : graph.ops) {
    if (op.kind == kind) found = &op;
  }
  CHECK(found != nullptr);
  return *found;
}

// Inputs exist before they are read; every value but the input is written once, and only kRope and
// kZeroBelow write what they read; the output is written.
void ExpectWellFormed(const Graph& graph) {
  std::map<ValueId, int> n_writes;
  if (graph.input != kNoValue) n_writes[graph.input] = 1;
  for (const Op& op : graph.ops) {
    for (const ValueId input : op.inputs) EXPECT_EQ(n_writes[input], 1) << OpKindName(op.kind);
    if (op.kind == OpKind::kRope || op.kind == OpKind::kZeroBelow) {
      EXPECT_EQ(op.inputs, op.outputs);
      continue;
    }
    for (const ValueId output : op.outputs) EXPECT_EQ(++n_writes[output], 1);
  }
  EXPECT_EQ(n_writes[graph.output], 1);
  EXPECT_EQ(n_writes.size(), graph.values.size());
}

// A matrix's shape fits the widths of the values it joins.
void ExpectShapesFit(const Graph& graph, const WeightIndex& weights) {
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kMatMul && op.kind != OpKind::kNeurons) continue;
    const TensorInfo* w = weights.Find(op.weights[0].role, op.weights[0].layer);
    ASSERT_NE(w, nullptr) << TensorName(op.weights[0]);
    EXPECT_EQ(w->n_cols(), graph.values[static_cast<size_t>(op.inputs[0])].n_cols) << w->name;
    EXPECT_EQ(w->n_rows(), graph.values[static_cast<size_t>(op.outputs[0])].n_cols) << w->name;
  }
}

// Every mode that the layers of these models can be made to run.
std::vector<FfnOptions> OptionsOf(const Model& model) {
  std::vector<FfnOptions> all = {kDense, kDenseByNeuron};
  if (model.config.relu_family()) all.push_back(kExact);
  all.push_back(kThresholded);
  if (model.weights.Find(WeightRole::kPredictorFc1, 0) == nullptr) return all;
  for (const PredictorKind kind : {PredictorKind::kRelu, PredictorKind::kLinear}) {
    for (const PredictorInput input : {PredictorInput::kResidual, PredictorInput::kFfnNorm}) {
      FfnOptions predicted = kPredicted;
      predicted.sparsity.predictor = kind;
      predicted.sparsity.input = input;
      all.push_back(predicted);
    }
  }
  return all;
}

TEST(Graph, EveryArchitectureAndModeIsWellFormed) {
  for (const TinyModelSpec& spec :
       {Spec("llama"), Spec("llama", "relu"), Spec("qwen2"), Spec("qwen2", "relu"), Spec("arcee"),
        Spec("nemotron"), Spec("bamboo"), Spec("opt"), PowerInferSpec(), PowerInferSpec("bamboo"),
        PowerInferSpec("opt")}) {
    const Model model = Load(TinyModelImage(spec));
    for (const FfnOptions& ffn : OptionsOf(model)) {
      for (int layer = 0; layer < model.config.n_layer; ++layer) {
        const Graph graph = BuildLayerGraph(model.config, model.weights, layer, ffn);
        SCOPED_TRACE(spec.arch + " " + spec.activation + " " + std::string(FfnModeName(ffn.mode)));
        ExpectWellFormed(graph);
        ExpectShapesFit(graph, model.weights);
        for (const Op& op : graph.ops) EXPECT_EQ(op.layer, layer);
        EXPECT_EQ(graph.ops[graph.ffn_begin].weights[0], (WeightKey{layer, WeightRole::kFfnNorm}));
      }
    }
  }
}

using enum OpKind;

TEST(Graph, DenseSwiGlu) {
  const Model model = Load(TinyModelImage(Spec("llama")));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 1, kDense);
  EXPECT_THAT(Kinds(graph),
              ElementsAre(kNorm, kMatMul, kMatMul, kMatMul, kRope, kAttention, kMatMul, kAdd, kNorm,
                          kMatMul, kMatMul, kActivate, kMatMul, kAdd));
  EXPECT_THAT(Last(graph, kMatMul).weights, ElementsAre(WeightKey{1, WeightRole::kFfnDown}));
  EXPECT_EQ(Last(graph, kActivate).inputs.size(), 2u);
  EXPECT_EQ(graph.values[static_cast<size_t>(graph.ops[1].outputs[0])].name, "attn_q-1");
}

TEST(Graph, ResidualsAddToTheInput) {
  const Model model = Load(TinyModelImage(Spec("arcee")));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kDense);
  const Op& first = graph.ops[7];
  ASSERT_EQ(first.kind, kAdd);
  EXPECT_EQ(first.inputs[0], graph.input);
  const Op& second = graph.ops.back();
  EXPECT_EQ(second.kind, kAdd);
  EXPECT_EQ(second.inputs[0], first.outputs[0]);
  EXPECT_EQ(second.outputs[0], graph.output);
}

TEST(Graph, DenseByNeuronAddsRowsOfEveryNeuron) {
  const Model model = Load(TinyModelImage(Spec("arcee")));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kDenseByNeuron);
  const Op& down = Last(graph, kAxpyRows);
  EXPECT_EQ(down.inputs.size(), 1u);
  EXPECT_EQ(ActiveIdsOf(graph, down), kNoValue);
  EXPECT_THAT(down.weights, ElementsAre(WeightKey{0, WeightRole::kFfnDownT}));
}

TEST(Graph, ExactUngatedSelectsAfterTheActivation) {
  const Model model = Load(TinyModelImage(Spec("arcee")));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kExact);
  EXPECT_THAT(Kinds(graph),
              ElementsAre(kNorm, kMatMul, kMatMul, kMatMul, kRope, kAttention, kMatMul, kAdd, kNorm,
                          kMatMul, kActivate, kSelectActive, kAxpyRows, kAdd));
  const Op& select = Last(graph, kSelectActive);
  EXPECT_EQ(select.inputs[0], Last(graph, kActivate).outputs[0]);
  EXPECT_EQ(ActiveIdsOf(graph, Last(graph, kAxpyRows)), select.outputs[0]);
}

TEST(Graph, ExactGatedComputesUpForActiveNeuronsOnly) {
  const Model model = Load(TinyModelImage(Spec("llama", "relu")));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kExact);
  EXPECT_THAT(Kinds(graph),
              ElementsAre(kNorm, kMatMul, kMatMul, kMatMul, kRope, kAttention, kMatMul, kAdd, kNorm,
                          kMatMul, kActivate, kSelectActive, kNeurons, kAxpyRows, kAdd));
  const ValueId ids = Last(graph, kSelectActive).outputs[0];
  const Op& neurons = Last(graph, kNeurons);
  EXPECT_EQ(ActiveIdsOf(graph, neurons), ids);
  EXPECT_THAT(neurons.weights, ElementsAre(WeightKey{0, WeightRole::kFfnUp}));
  EXPECT_EQ(neurons.inputs[2], Last(graph, kSelectActive).inputs[0]);
  EXPECT_EQ(ActiveIdsOf(graph, Last(graph, kAxpyRows)), ids);
}

TEST(Graph, PredictedComputesWhatThePredictorNames) {
  const Model model = Load(TinyModelImage(PowerInferSpec()));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kPredicted);
  EXPECT_THAT(Kinds(graph),
              ElementsAre(kNorm, kMatMul, kMatMul, kMatMul, kRope, kAttention, kMatMul, kAdd, kNorm,
                          kMatMul, kActivate, kMatMul, kSelectAtLeast, kNeurons, kAxpyRows, kAdd));
  const Op& residual = graph.ops[7];
  const Op& fc1 = graph.ops[9];
  EXPECT_THAT(fc1.inputs, ElementsAre(residual.outputs[0]));
  EXPECT_EQ(graph.ops[10].activation, Activation::kRelu);
  const Op& select = Last(graph, kSelectAtLeast);
  EXPECT_EQ(select.threshold, 0.5f);
  const Op& neurons = Last(graph, kNeurons);
  EXPECT_EQ(neurons.inputs[0], graph.ops[8].outputs[0]);
  EXPECT_EQ(ActiveIdsOf(graph, neurons), select.outputs[0]);
  EXPECT_EQ(InputOf(graph, neurons, ValueKind::kScores), select.inputs[0]);
  EXPECT_EQ(neurons.threshold, 0.5f);
  EXPECT_THAT(neurons.weights,
              ElementsAre(WeightKey{0, WeightRole::kFfnGate}, WeightKey{0, WeightRole::kFfnUp}));
}

TEST(Graph, ALinearPredictorMayReadTheNorm) {
  const Model model = Load(TinyModelImage(PowerInferSpec()));
  FfnOptions options = kPredicted;
  options.sparsity.predictor = PredictorKind::kLinear;
  options.sparsity.input = PredictorInput::kFfnNorm;
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, options);
  const Op& fc1 = graph.ops[9];
  const Op& fc2 = graph.ops[10];
  EXPECT_THAT(fc1.inputs, ElementsAre(graph.ops[8].outputs[0]));
  EXPECT_THAT(fc2.inputs, ElementsAre(fc1.outputs[0]));
  EXPECT_THAT(fc2.weights, ElementsAre(WeightKey{0, WeightRole::kPredictorFc2}));
}

TEST(Graph, ThresholdedZeroesSmallActivationsBeforeSelecting) {
  const Model model = Load(TinyModelImage(Spec("qwen2")));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kThresholded);
  EXPECT_THAT(Kinds(graph), ElementsAre(kNorm, kMatMul, kMatMul, kMatMul, kRope, kAttention,
                                        kMatMul, kAdd, kNorm, kMatMul, kActivate, kZeroBelow,
                                        kSelectActive, kNeurons, kAxpyRows, kAdd));
  const Op& zero = Last(graph, kZeroBelow);
  EXPECT_EQ(zero.threshold, 0.25f);
  EXPECT_EQ(zero.inputs, zero.outputs);
  EXPECT_EQ(Last(graph, kSelectActive).inputs, zero.outputs);
  EXPECT_EQ(Last(graph, kNeurons).activation, Activation::kSilu);
}

TEST(Graph, BambooActivatesUpInEveryMode) {
  const Model model = Load(TinyModelImage(PowerInferSpec("bamboo")));
  const Graph dense = BuildLayerGraph(model.config, model.weights, 0, kDense);
  EXPECT_THAT(Kinds(dense),
              ElementsAre(kNorm, kMatMul, kMatMul, kMatMul, kRope, kAttention, kMatMul, kAdd, kNorm,
                          kMatMul, kMatMul, kActivate, kActivate, kAxpyRows, kAdd));
  const Op& act_up = dense.ops[11];
  EXPECT_THAT(act_up.inputs, ElementsAre(dense.ops[10].outputs[0]));
  EXPECT_THAT(dense.ops[12].inputs, ElementsAre(dense.ops[9].outputs[0], act_up.outputs[0]));
  for (const FfnOptions& ffn : {kExact, kPredicted}) {
    const Graph graph = BuildLayerGraph(model.config, model.weights, 0, ffn);
    EXPECT_TRUE(Last(graph, kNeurons).activates_up);
  }
}

ValueKind KindOf(const Graph& graph, ValueId value) {
  return graph.values[static_cast<size_t>(value)].kind;
}

TEST(Graph, SumsOfAllMembersAreAddedBeforeTheyAreRounded) {
  const Model model = Load(TinyModelImage(PowerInferSpec()));
  FfnOptions ffn = kDense;
  ffn.share = {.n_neurons = 64, .n_helpers = 2, .in_group = true};
  const Graph lead = BuildLayerGraph(model.config, model.weights, 0, ffn);
  std::vector<OpKind> kinds = Kinds(lead);
  kinds.erase(kinds.begin(), kinds.begin() + static_cast<std::ptrdiff_t>(lead.ffn_begin));
  EXPECT_THAT(kinds, ElementsAre(kSend, kBroadcast, kNorm, kMatMul, kMatMul, kActivate, kAxpyRows,
                                 kGroupSum, kReceive, kAddSums, kReceive, kRoundSums, kAdd));
  const ValueId own = Last(lead, kAxpyRows).outputs[0], last = Last(lead, kReceive).outputs[0];
  EXPECT_EQ(KindOf(lead, own), ValueKind::kSums);
  EXPECT_EQ(KindOf(lead, last), ValueKind::kSums);
  EXPECT_THAT(Last(lead, kAddSums).outputs, ElementsAre(own));
  EXPECT_THAT(Last(lead, kRoundSums).inputs, ElementsAre(own, last));
  EXPECT_EQ(KindOf(lead, Last(lead, kRoundSums).outputs[0]), ValueKind::kRows);

  ffn.share = {.n_neurons = 64};
  const Graph helper = BuildHelperGraph(model.config, model.weights, 0, ffn);
  EXPECT_EQ(KindOf(helper, helper.output), ValueKind::kSums);
  EXPECT_THAT(Last(helper, kSend).inputs, ElementsAre(helper.output));
  // A lead that has a layer to itself rounds at once.
  const Graph alone = BuildLayerGraph(model.config, model.weights, 0, ffn);
  EXPECT_EQ(KindOf(alone, Last(alone, kAxpyRows).outputs[0]), ValueKind::kRows);
}

// The bias is the lead's, and in the sum before it is rounded.
TEST(Graph, TheBiasOfASharedLayerIsAddedWithTheSums) {
  TinyModelSpec spec;
  spec.arch = "opt";
  const Model model = Load(TinyModelImage(spec));
  const Graph alone = BuildLayerGraph(model.config, model.weights, 0, kExact);
  EXPECT_EQ(Last(alone, kAxpyRows).weights.size(), 2u);
  FfnOptions ffn = kExact;
  ffn.share = {.n_neurons = 64, .n_helpers = 1};
  const Graph lead = BuildLayerGraph(model.config, model.weights, 0, ffn);
  EXPECT_EQ(Last(lead, kAxpyRows).weights.size(), 1u);
  EXPECT_THAT(Last(lead, kRoundSums).weights, ElementsAre(WeightKey{0, WeightRole::kFfnDownBias}));
}

TEST(Graph, NeuronRowsOfTheFileAreUsedInDenseModeToo) {
  const Model model = Load(TinyModelImage(PowerInferSpec()));
  const Graph graph = BuildLayerGraph(model.config, model.weights, 0, kDense);
  EXPECT_THAT(Last(graph, kAxpyRows).weights, ElementsAre(WeightKey{0, WeightRole::kFfnDownT}));
}

TEST(Graph, OptionalWeightsAreNamedWhereTheFileHasThem) {
  TinyModelSpec spec = Spec("llama");
  spec.rope_freqs = true;
  GgufImage image = TinyModelImage(spec);
  image.AddZeros("blk.0.attn_v.bias", DType::kF32, {32});
  const Model model = Load(image);
  const Graph with = BuildLayerGraph(model.config, model.weights, 0, kDense);
  EXPECT_THAT(with.ops[3].weights,
              ElementsAre(WeightKey{0, WeightRole::kAttnV}, WeightKey{0, WeightRole::kAttnVBias}));
  EXPECT_THAT(Last(with, kRope).weights, ElementsAre(WeightKey{kNoLayer, WeightRole::kRopeFreqs}));
  const Graph without = BuildLayerGraph(model.config, model.weights, 1, kDense);
  EXPECT_THAT(without.ops[3].weights, ElementsAre(WeightKey{1, WeightRole::kAttnV}));
}

TEST(Graph, LayerNormsHaveBiases) {
  const Model model = Load(TinyModelImage(Spec("nemotron")));
  const Graph layer = BuildLayerGraph(model.config, model.weights, 0, kDense);
  EXPECT_THAT(layer.ops[0].weights, ElementsAre(WeightKey{0, WeightRole::kAttnNorm},
                                                WeightKey{0, WeightRole::kAttnNormBias}));
  const Graph head = BuildHeadGraph(model.config, model.weights);
  EXPECT_THAT(head.ops[0].weights, ElementsAre(WeightKey{kNoLayer, WeightRole::kOutputNorm},
                                               WeightKey{kNoLayer, WeightRole::kOutputNormBias}));
}

TEST(Graph, EmbedAndHead) {
  for (const bool tied : {false, true}) {
    TinyModelSpec spec = Spec("llama");
    spec.tied = tied;
    const Model model = Load(TinyModelImage(spec));
    const Graph embed = BuildEmbedGraph(model.config);
    ExpectWellFormed(embed);
    EXPECT_THAT(Kinds(embed), ElementsAre(kEmbed));
    EXPECT_EQ(embed.input, kNoValue);
    const Graph head = BuildHeadGraph(model.config, model.weights);
    ExpectWellFormed(head);
    ExpectShapesFit(head, model.weights);
    EXPECT_THAT(Kinds(head), ElementsAre(kNorm, kMatMul));
    EXPECT_EQ(head.ops[1].weights[0].role, tied ? WeightRole::kTokenEmbd : WeightRole::kOutput);
    EXPECT_EQ(head.values[static_cast<size_t>(head.output)].n_cols, 288);
  }
}

TEST(Graph, LearnedPositionsAreAddedOnceAndNothingIsRotated) {
  const Model model = Load(TinyModelImage(Spec("opt")));
  const Graph embed = BuildEmbedGraph(model.config);
  ExpectWellFormed(embed);
  EXPECT_THAT(Kinds(embed), ElementsAre(kEmbed, kEmbedPosition, kAdd));
  EXPECT_THAT(embed.ops[1].weights, ElementsAre(WeightKey{kNoLayer, WeightRole::kPositionEmbd}));
  const Graph layer = BuildLayerGraph(model.config, model.weights, 0, kDense);
  EXPECT_THAT(Kinds(layer), ::testing::Not(::testing::Contains(kRope)));
}

// Counted by the graph's ops or by the index: the same bytes, in whichever way down is computed.
TEST(Graph, WeightBytesAddUpToTheLayer) {
  for (const TinyModelSpec& spec :
       {Spec("arcee"), Spec("llama", "relu"), Spec("qwen2"), Spec("opt")}) {
    const Model model = Load(TinyModelImage(spec));
    for (const FfnOptions& ffn : OptionsOf(model)) {
      uint64_t n_bytes = 0;
      for (const Op& op : BuildLayerGraph(model.config, model.weights, 0, ffn).ops) {
        n_bytes += WeightBytes(op, model.weights);
      }
      EXPECT_EQ(n_bytes, model.weights.BytesOf({0, 1, false, false})) << spec.arch;
    }
  }
}

TEST(Graph, KindsHaveNames) {
  EXPECT_STREQ(OpKindName(kEmbed), "embed");
  EXPECT_STREQ(OpKindName(kAxpyRows), "axpy_rows");
  EXPECT_STREQ(OpKindName(kZeroBelow), "zero_below");
}

}  // namespace
}  // namespace thermocline::model
