#include "placement/weight_time.h"

#include <gtest/gtest.h>

#include "placement/op_time.h"

namespace thermocline::placement {
namespace {

constexpr double kGiga = 1e9;

WeightRate Rate(WeightUse use, double share, int n_tokens, double seconds_per_gb) {
  return {use, DType::kF16, share, n_tokens, Figure::Measured(kGiga / seconds_per_gb)};
}

WorkerProfile Worker() {
  return {
      .op_overhead_s = Figure::Measured(0),
      .compute_rates = {{DType::kF16, 4, Figure::Measured(100e9)},
                        {DType::kF16, 16, Figure::Measured(100e9)}},
      .weight_rates = {Rate(WeightUse::kMatMul, 1, 4, 5), Rate(WeightUse::kMatMul, 1, 1, 2),
                       Rate(WeightUse::kNeurons, 0.1, 1, 4), Rate(WeightUse::kNeurons, 0.1, 4, 10),
                       Rate(WeightUse::kAxpyRows, 0.1, 1, 3)}};
}

double SecondsPerGb(WeightUse use, double share, double n_tokens) {
  return kGiga * WeightTimes::Of(Worker(), use, DType::kF16).SecondsPerByte(share, n_tokens);
}

TEST(WeightTimes, MeasuredCasesAreGivenBack) {
  EXPECT_NEAR(SecondsPerGb(WeightUse::kMatMul, 1, 1), 2, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kMatMul, 1, 4), 5, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 0.1, 1), 4, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 0.1, 4), 10, 1e-9);
}

TEST(WeightTimes, BetweenAndBeyondTheyChangeInStraightLines) {
  EXPECT_NEAR(SecondsPerGb(WeightUse::kMatMul, 1, 2), 3, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kMatMul, 1, 8), 9, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 0.1, 2), 6, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 0.01, 1), 4, 1e-9) << "as the sparsest measured";
}

TEST(WeightTimes, ListsThatNameEveryRowAreProductsOfAll) {
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 1, 1), 2, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 0.55, 1), 3, 1e-9);
  EXPECT_NEAR(SecondsPerGb(WeightUse::kNeurons, 0.55, 4), 9, 1e-9);
}

TEST(WeightTimes, OneCaseServesAll) {
  EXPECT_NEAR(SecondsPerGb(WeightUse::kAxpyRows, 1, 7), 3, 1e-9);
  EXPECT_FALSE(WeightTimes::Of(Worker(), WeightUse::kMatMul, DType::kQ8_0).known());
  EXPECT_FALSE(WeightTimes::Of({}, WeightUse::kNeurons, DType::kF16).known());
}

TEST(WorkerSpeedByWeights, AProductTakesTheMeasuredTime) {
  const OpLoad op{
      .kind = model::OpKind::kMatMul, .dtype = DType::kF16, .bytes = kGiga, .flops = kGiga};
  EXPECT_NEAR(WorkerSpeed(Worker(), 1).OpSeconds(op, {}, 1), 2, 1e-9);
  const OpLoad four{
      .kind = model::OpKind::kMatMul, .dtype = DType::kF16, .bytes = kGiga, .flops = 4 * kGiga};
  EXPECT_NEAR(WorkerSpeed(Worker(), 4).OpSeconds(four, {}, 1), 5, 1e-9);
}

TEST(WorkerSpeedByWeights, MoreTokensThanMeasuredAddWhatTheyCompute) {
  const OpLoad op{
      .kind = model::OpKind::kMatMul, .dtype = DType::kF16, .bytes = kGiga, .flops = 16 * kGiga};
  EXPECT_NEAR(WorkerSpeed(Worker(), 16).OpSeconds(op, {}, 1), 5 + 12 * kGiga / 100e9, 1e-9);
}

TEST(WorkerSpeedByWeights, ListedRowsTakeTheTimeOfTheirDensity) {
  const OpLoad op{.kind = model::OpKind::kNeurons,
                  .dtype = DType::kF16,
                  .bytes_per_active = 1e6,
                  .flops_per_use = 1e6};
  const NeuronShare share{.n = 10'000, .selected = 1000, .active = 1000, .uses = 1000};
  EXPECT_NEAR(WorkerSpeed(Worker(), 1).OpSeconds(op, share, 0.1), 4, 1e-9);
  EXPECT_NEAR(WorkerSpeed(Worker(), 1).OpSeconds(op, share, 0.55), 3, 1e-9);
}

}  // namespace
}  // namespace thermocline::placement
