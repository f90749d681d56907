#include "tools/convert/conversion_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tools/convert/flags.h"
#include "tools/convert/report.h"

namespace thermocline::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::IsOk;

SourceTensor Tensor(const std::string& name, DType dtype, std::vector<int64_t> shape) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.shape = shape;
  const int64_t n_rows = shape.size() == 1 ? 1 : shape[0];
  tensor.view = TensorView::Dense(nullptr, dtype, n_rows, shape.back());
  return tensor;
}

SourceModel Model(DType dtype) {
  SourceModel source;
  source.tensors = {Tensor("token_embd.weight", dtype, {300, 256}),
                    Tensor("blk.0.ffn_norm.weight", DType::kF32, {256}),
                    Tensor("blk.0.ffn_up.weight", dtype, {320, 256}),
                    Tensor("blk.0.ffn_down.weight", dtype, {256, 320})};
  return source;
}

TEST(ConversionPlan, WithoutWishesEverythingIsACopy) {
  const SourceModel source = Model(DType::kQ8_0);
  const auto plan = PlanConversion(source, {});
  ASSERT_THAT(plan.status(), IsOk());
  for (const PlannedTensor& tensor : plan->tensors) EXPECT_TRUE(tensor.is_copy());
}

TEST(ConversionPlan, NormsStayAndRowsThatDoNotFitFallBack) {
  const SourceModel source = Model(DType::kF16);
  ConversionOptions options;
  options.dtype = DType::kQ4_K;
  options.output_dtype = DType::kQ6_K;
  const auto plan = PlanConversion(source, options);
  ASSERT_THAT(plan.status(), IsOk());
  EXPECT_EQ(plan->tensors[0].target.dtype, DType::kQ6_K);
  EXPECT_EQ(plan->tensors[1].target.dtype, DType::kF32);
  EXPECT_THAT(plan->tensors[1].note, HasSubstr("stay F32"));
  EXPECT_EQ(plan->tensors[2].target.dtype, DType::kQ4_K);
  EXPECT_EQ(plan->tensors[3].target.dtype, DType::kQ8_0);
  EXPECT_THAT(plan->tensors[3].note, HasSubstr("rows of 320 are not whole Q4_K blocks"));
}

TEST(ConversionPlan, RowsThatFitNoBlockBecomeF16) {
  SourceModel source;
  source.tensors = {Tensor("blk.0.ffn_up.weight", DType::kF32, {8, 40})};
  ConversionOptions options;
  options.dtype = DType::kQ4_0;
  EXPECT_EQ(PlanConversion(source, options)->tensors[0].target.dtype, DType::kF16);
}

TEST(ConversionPlan, NeuronRowsTurnTheShape) {
  const SourceModel source = Model(DType::kBF16);
  ConversionOptions options;
  options.neuron_rows = true;
  const auto plan = PlanConversion(source, options);
  ASSERT_THAT(plan.status(), IsOk());
  const PlannedTensor& down = plan->tensors[3];
  EXPECT_EQ(down.target.name, "blk.0.ffn_down_t.weight");
  EXPECT_THAT(down.target.shape, ElementsAre(320, 256));
  EXPECT_EQ(down.target.dtype, DType::kBF16);
  EXPECT_TRUE(down.transpose);
  EXPECT_TRUE(plan->tensors[2].is_copy());
}

TEST(ConversionPlan, QuantisedNeuronRowsBecomeQ8_0UnlessAsked) {
  const SourceModel source = Model(DType::kQ4_0);
  ConversionOptions options;
  options.neuron_rows = true;
  EXPECT_EQ(PlanConversion(source, options)->tensors[3].target.dtype, DType::kQ8_0);
  options.dtype = DType::kQ4_0;
  EXPECT_EQ(PlanConversion(source, options)->tensors[3].target.dtype, DType::kQ4_0);
}

TEST(ConversionPlan, NeuronRowsNeedColumnsToTurn) {
  SourceModel source;
  source.tensors = {Tensor("blk.0.ffn_down_t.weight", DType::kF16, {320, 256})};
  ConversionOptions options;
  options.neuron_rows = true;
  EXPECT_THAT(PlanConversion(source, options).status().message(), HasSubstr("already"));
}

TEST(ConversionPlan, TypesAreReadInAnyCase) {
  EXPECT_EQ(*ParseWeightType("q4_k"), DType::kQ4_K);
  EXPECT_EQ(*ParseWeightType("BF16"), DType::kBF16);
  EXPECT_THAT(ParseWeightType("i32").status().message(), HasSubstr("i32"));
}

TEST(ConversionReport, GroupsTheLayersOfATensor) {
  SourceModel source;
  source.tensors = {Tensor("blk.0.ffn_up.weight", DType::kF16, {64, 32}),
                    Tensor("blk.1.ffn_up.weight", DType::kF16, {64, 32})};
  ConversionOptions options;
  options.dtype = DType::kQ8_0;
  const auto plan = PlanConversion(source, options);
  ConversionReport report;
  for (const PlannedTensor& tensor : plan->tensors) report.Add(tensor, {{1, 100, 0.5}, {}, {}});
  const std::string text = report.Text({});
  EXPECT_THAT(text,
              HasSubstr("ffn_up.weight  2   F16  Q8_0  8.0 KiB  4.2 KiB        10%   5.00e-01"));
}

TEST(ConvertFlags, AWrongTypeIsNamedBeforeAMissingOutput) {
  ConvertFlags flags;
  flags.input = "in.gguf";
  flags.dtype = "q9";
  EXPECT_THAT(ReadConvertFlags(flags).status().message(), HasSubstr("unknown weight type \"q9\""));
  flags.dtype = "q8_0";
  flags.output_dtype = "q7";
  EXPECT_THAT(ReadConvertFlags(flags).status().message(), HasSubstr("\"q7\""));
  flags.output_dtype = "";
  EXPECT_THAT(ReadConvertFlags(flags).status().message(), HasSubstr("-o OUT.gguf"));
  flags.dry_run = true;
  EXPECT_TRUE(ReadConvertFlags(flags).ok());
}

}  // namespace
}  // namespace thermocline::tools
