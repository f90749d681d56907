#include "model/neuron_rows.h"

#include <gtest/gtest.h>

namespace thermocline::model {
namespace {

TEST(NeuronRows, NamesComeBackAndOthersAreRefused) {
  for (int i = 0; i <= static_cast<int>(kLastNeuronRows); ++i) {
    const auto rows = static_cast<NeuronRows>(i);
    const auto parsed = ParseNeuronRows(NeuronRowsName(rows));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, rows);
  }
  EXPECT_EQ(ParseNeuronRows("fp8").status().message(),
            "rows of neurons are none of as-is, fp8-e4m3 and fp8-e5m2: fp8");
}

TEST(NeuronRows, FloatsOfTheFfnAreHeldIn8BitsWhereBlocksDivideThem) {
  constexpr auto kRows = NeuronRows::kFp8E5M2;
  for (const WeightRole role :
       {WeightRole::kFfnGate, WeightRole::kFfnUp, WeightRole::kFfnDown, WeightRole::kFfnDownT}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      EXPECT_EQ(HeldIn(kRows, role, {dtype, 64, 96}).dtype, DType::kFp8E5M2);
      EXPECT_EQ(HeldIn(NeuronRows::kAsIs, role, {dtype, 64, 96}).dtype, dtype);
      EXPECT_EQ(HeldIn(kRows, role, {dtype, 65, 96}).dtype, dtype);
      EXPECT_EQ(HeldIn(kRows, role, {dtype, 64, 80}).dtype, dtype);
    }
    EXPECT_EQ(HeldIn(kRows, role, {DType::kQ8_0, 64, 96}).dtype, DType::kQ8_0);
  }
  EXPECT_EQ(HeldIn(kRows, WeightRole::kFfnUp, {DType::kF16, 64, 96}).size_bytes(),
            64u * 96 / 32 * 34);
  for (const WeightRole role : {WeightRole::kAttnQ, WeightRole::kOutput, WeightRole::kFfnUpBias,
                                WeightRole::kPredictorFc2}) {
    EXPECT_EQ(HeldIn(kRows, role, {DType::kF16, 64, 96}).dtype, DType::kF16);
  }
}

}  // namespace
}  // namespace thermocline::model
