#include "tools/inspect/roofline.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tools/bench_model/case_runner.h"
#include "tools/local/local_stage.h"
#include "worker/assignment.h"

namespace thermocline::tools {
namespace {

struct Opened {
  explicit Opened(const testing::TinyModelSpec& spec)
      : file(testing::TinyModel(spec)), model(*worker::OpenModel(file.path())) {}
  testing::TempFile file;
  worker::LoadedModel model;
};

StepShape Shape(int64_t n_tokens, int64_t n_context, model::FfnMode mode) {
  StepShape shape;
  shape.n_tokens = n_tokens;
  shape.n_context = n_context;
  shape.ffn = mode;
  return shape;
}

class EachModel : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Roofline, EachModel,
                         ::testing::Values("llama", "qwen2", "arcee", "nemotron", "opt",
                                           "powerinfer"));

// The oracle: what the ops counted while they ran.
TEST_P(EachModel, BytesAreThoseThatTheOpsRead) {
  testing::TinyModelSpec spec;
  spec.arch = GetParam();
  spec.dtype = DType::kQ8_0;
  if (spec.arch == "powerinfer") {
    spec.arch = "llama";
    spec.dialect = testing::GgufDialect::kPowerInfer;
  }
  Opened opened(spec);
  LocalStageOptions options;
  options.kv.n_pages = 8;
  options.max_step_tokens = 16;
  auto stage = LocalStage::Load(opened.model, options, worker::IgnoreProgress);
  ASSERT_THAT(stage.status(), testing::IsOk());
  CaseRunner runner(stage->get(), {opened.model.config.n_vocab, 16, 1});
  const BenchCase decode{.n_gen = 1, .depth = 20}, prefill{.n_prompt = 9, .depth = 5};
  for (const BenchCase& test : {decode, prefill}) {
    const auto sample = runner.Run(test, 0);
    ASSERT_THAT(sample.status(), testing::IsOk());
    const StepCost cost = CostOf(opened.model.config, opened.model.weights,
                                 Shape(test.n_tokens(), test.depth, model::FfnMode::kDense));
    EXPECT_DOUBLE_EQ(cost.bytes(),
                     static_cast<double>(sample->traffic.weight_bytes + sample->traffic.kv_bytes))
        << TestName(test);
  }
}

double BytesOf(const StepCost& cost, const std::string& name) {
  for (const OpCost& op : cost.ops) {
    if (op.name == name) return op.bytes;
  }
  ADD_FAILURE() << "no such op: " << name;
  return 0;
}

// Also where the worker holds neuron rows of another type than the file has.
TEST(Roofline, SparseModesCountWhatTheWorkerHolds) {
  testing::TinyModelSpec arcee, powerinfer;
  arcee.arch = "arcee";
  arcee.dtype = DType::kQ4_0;
  powerinfer.dialect = testing::GgufDialect::kPowerInfer;
  powerinfer.dtype = DType::kF16;
  for (const auto& [spec, mode] :
       {std::pair{arcee, model::FfnMode::kExact}, std::pair{powerinfer, model::FfnMode::kExact}}) {
    Opened opened(spec);
    LocalStageOptions options;
    options.ffn = mode;
    options.kv.n_pages = 8;
    options.max_step_tokens = 16;
    auto stage = LocalStage::Load(opened.model, options, worker::IgnoreProgress);
    ASSERT_THAT(stage.status(), testing::IsOk());
    CaseRunner runner(stage->get(), {opened.model.config.n_vocab, 16, 1});
    const BenchCase decode{.n_gen = 1, .depth = 20};
    const auto sample = runner.Run(decode, 0);
    ASSERT_THAT(sample.status(), testing::IsOk());
    StepShape shape = Shape(1, 20, mode);
    shape.sparsity = &opened.model.sparsity;
    // Layers are alike, so their mean will do.
    shape.densities.layers.assign(static_cast<size_t>(spec.n_layer), sample->traffic.density());
    const StepCost cost = CostOf(opened.model.config, opened.model.weights, shape);
    EXPECT_NEAR(cost.bytes(),
                static_cast<double>(sample->traffic.weight_bytes + sample->traffic.kv_bytes), 1e-6)
        << spec.arch << " " << model::FfnModeName(mode);
    EXPECT_LT(sample->traffic.density(), 1);
  }
}

TEST(Roofline, HalvesOfPredictorsCountAsTheBytesTheyBecome) {
  testing::TinyModelSpec spec;
  spec.dialect = testing::GgufDialect::kPowerInfer;
  spec.dtype = DType::kF16;
  const Opened opened(spec);
  StepShape shape = Shape(1, 0, model::FfnMode::kPredicted);
  shape.sparsity = &opened.model.sparsity;
  const StepCost cost = CostOf(opened.model.config, opened.model.weights, shape);
  // 34 bytes for 32 weights of Q8_0.
  EXPECT_DOUBLE_EQ(BytesOf(cost, "matmul fc1"), 2.0 * spec.n_predictor * spec.n_embd / 32 * 34);
  EXPECT_DOUBLE_EQ(BytesOf(cost, "matmul fc2"), 2.0 * spec.n_ff * spec.n_predictor / 32 * 34);
}

TEST(Roofline, ActiveNeuronsAreReadOncePerStep) {
  testing::TinyModelSpec spec;
  spec.arch = "arcee";
  const Opened opened(spec);
  const auto cost_of = [&](int64_t n_tokens, double density) {
    StepShape shape = Shape(n_tokens, 0, model::FfnMode::kExact);
    shape.densities.layers.assign(static_cast<size_t>(spec.n_layer), density);
    return CostOf(opened.model.config, opened.model.weights, shape);
  };
  const std::string down = "axpy_rows ffn_down_t";
  const double all = BytesOf(cost_of(1, 1), down);
  EXPECT_DOUBLE_EQ(all, 4.0 * spec.n_layer * spec.n_ff * spec.n_embd);
  EXPECT_DOUBLE_EQ(BytesOf(cost_of(1, 0.25), down), 0.25 * all);
  EXPECT_DOUBLE_EQ(BytesOf(cost_of(2, 0.25), down), (1 - 0.75 * 0.75) * all);
  EXPECT_DOUBLE_EQ(BytesOf(cost_of(1, 0.25), "matmul ffn_up"), all);  // which ones is not known yet
}

TEST(Roofline, ALineIsAKindAndAWeight) {
  testing::TinyModelSpec spec;
  spec.n_layer = 3;
  const Opened opened(spec);
  const StepCost cost =
      CostOf(opened.model.config, opened.model.weights, Shape(1, 0, model::FfnMode::kDense));
  for (const OpCost& op : cost.ops) {
    if (op.name == "matmul attn_q") {
      EXPECT_EQ(op.count, 3);
      EXPECT_DOUBLE_EQ(op.flops, 3 * 2.0 * spec.n_embd * spec.n_embd);
      EXPECT_DOUBLE_EQ(op.intensity(), 0.5);  // 2 FLOPs per 4 bytes
    }
  }
  EXPECT_GT(BytesOf(cost, "matmul attn_q"), 0);
}

MachineRates Rates() {
  MachineRates rates;
  rates.bytes_per_s = 100;
  rates.flops[DType::kF32] = {10, 20};
  rates.flops[DType::kQ4_0] = {40, 80};
  return rates;
}

TEST(Roofline, TheSlowerOfMemoryAndComputeBounds) {
  const OpCost memory{"m", DType::kF32, 1, 200, 10};
  EXPECT_EQ(PredictOp(memory, 1, Rates()).bound, Bound::kMemory);
  EXPECT_DOUBLE_EQ(PredictOp(memory, 1, Rates()).seconds, 2);
  const OpCost compute{"c", DType::kQ4_0, 1, 100, 160};
  EXPECT_EQ(PredictOp(compute, 1, Rates()).bound, Bound::kCompute);
  EXPECT_DOUBLE_EQ(PredictOp(compute, 1, Rates()).seconds, 4);
  EXPECT_DOUBLE_EQ(PredictOp(compute, 64, Rates()).seconds, 2);  // the rate of prompts
  const OpCost other_type{"o", DType::kQ6_K, 1, 0, 10};          // as F32
  EXPECT_DOUBLE_EQ(PredictOp(other_type, 1, Rates()).seconds, 1);
  EXPECT_EQ(PredictOp({"add", DType::kF32, 1, 0, 0}, 1, Rates()).bound, Bound::kNothing);
  EXPECT_DOUBLE_EQ(PredictSeconds({1, {memory, compute}}, Rates()), 6);
}

TEST(MachineRates, AreMeasuredForEachType) {
  const DType types[] = {DType::kF16, DType::kQ4_0};
  const auto rates = MeasureRates(1, types);
  ASSERT_THAT(rates.status(), testing::IsOk());
  EXPECT_EQ(rates->flops.size(), 3u);  // F32 too
  EXPECT_GT(rates->bytes_per_s, 1e6);
  for (const auto& [dtype, flops] : rates->flops) {
    EXPECT_GT(flops.decode_per_s, 1e6) << DTypeName(dtype);
    EXPECT_GT(flops.prefill_per_s, 1e6) << DTypeName(dtype);
  }
  EXPECT_FALSE(MeasureRates(0, types).ok());
}

}  // namespace
}  // namespace thermocline::tools
