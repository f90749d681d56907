#include "tools/profile/predictor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "tools/profile/lowrank_predictor.h"
#include "tools/profile/predictor_sizing.h"
#include "tools/profile/predictor_trainer.h"

namespace thermocline::tools {
namespace {

constexpr int64_t kEmbd = 64, kFf = 96, kSamples = 3000;

float Normal(uint64_t seed, uint64_t position) {
  double sum = -6;
  for (uint64_t i = 0; i < 12; ++i) sum += UniformAt(seed, position * 12 + i);
  return static_cast<float>(sum);
}

// A layer whose gate has a planted rank: active where rows (fc2 fc1) of x exceed a bias that the
// constant last input carries, so that about one in six is.
struct Planted {
  Planted(uint64_t seed, int64_t rank) : gate(kFf, kEmbd) {
    Matrix a(kFf, rank), b_t(kEmbd, rank);
    uint64_t at = 0;
    for (float& v : a.data) v = Normal(seed, at++);
    for (float& v : b_t.data) v = Normal(seed, at++);
    const auto device = kernels::MakeReferenceDevice();
    gate = Product(*device, b_t.view(), a.view());
    const float bias = -std::sqrt(static_cast<float>(rank * kEmbd)) / 8;
    for (int64_t i = 0; i < kFf; ++i) gate.row(i)[kEmbd - 1] = bias;
    samples.n_embd = kEmbd;
    samples.active = model::ActivityMasks(kFf);
    for (int64_t t = 0; t < kSamples; ++t) {
      for (int64_t i = 0; i + 1 < kEmbd; ++i) samples.inputs.push_back(Normal(seed, at++));
      samples.inputs.push_back(8);
    }
    const Matrix values = Product(*device, gate.view(), samples.Rows(0, kSamples));
    for (int64_t t = 0; t < kSamples; ++t) {
      std::vector<float> positive(values.row(t).begin(), values.row(t).end());
      for (float& v : positive) v = std::max(v, 0.0f);
      samples.active.Add(positive, 0, static_cast<int>(t / 100));
    }
  }
  Matrix gate;
  LayerSamples samples;
};

constexpr SampleRange kTraining = {0, 2000};
constexpr CalibrationRanges kCalibration = {{2000, 2500}, {2500, 3000}};

class Predictors : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = std::move(kernels::MakeCpuDevice({2})).value();
    pool_ = std::move(ThreadPool::Create({2, "train", {}})).value();
  }
  PredictorQuality QualityOf(const Predictor& predictor, const LayerSamples& samples,
                             double recall) {
    const float threshold =
        CalibrateThreshold(*device_, predictor, samples, kCalibration.threshold, recall);
    return MeasureQuality(*device_, predictor, samples, kCalibration.judged, threshold);
  }
  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<ThreadPool> pool_;
};

TEST_F(Predictors, TheTrainerLearnsAPlantedGate) {
  const Planted planted(1, 4);
  PredictorTrainer trainer({*device_, *pool_}, planted.samples, kTraining, {});
  trainer.Start(32);
  const PredictorQuality before = QualityOf(trainer.predictor(), planted.samples, 0.99);
  int n_steps = 0;
  trainer.Train(600, [&] {
    ++n_steps;
    return true;
  });
  EXPECT_EQ(n_steps, 600);
  const PredictorQuality after = QualityOf(trainer.predictor(), planted.samples, 0.99);
  EXPECT_GT(before.predicted_density, 0.7);
  EXPECT_GT(after.recall, 0.975);
  EXPECT_GT(after.precision, 0.75);
  EXPECT_LT(after.predicted_density, 1.35 * after.density);
}

TEST_F(Predictors, EqualSeedsGiveEqualWeightsOnAnyNumberOfThreads) {
  const Planted planted(2, 4);
  std::vector<std::vector<float>> weights;
  for (const int n_threads : {1, 2, 2}) {
    const auto device = std::move(kernels::MakeCpuDevice({n_threads})).value();
    const auto pool = std::move(ThreadPool::Create({n_threads, "train", {}})).value();
    PredictorTrainer trainer({*device, *pool}, planted.samples, kTraining, {});
    trainer.Start(16);
    trainer.Train(10, [] { return true; });
    weights.push_back(trainer.predictor().fc2.data);
  }
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_EQ(weights[1], weights[2]);
  PredictorTrainer other({*device_, *pool_}, planted.samples, kTraining, {.seed = 9});
  other.Start(16);
  other.Train(10, [] { return true; });
  EXPECT_NE(weights[0], other.predictor().fc2.data);
}

TEST_F(Predictors, NewUnitsChangeNoScore) {
  const Planted planted(3, 4);
  PredictorTrainer trainer({*device_, *pool_}, planted.samples, kTraining, {});
  trainer.Start(16);
  const TensorView x = planted.samples.Rows(0, 20);
  const Matrix before = trainer.predictor().Scores(*device_, x);
  trainer.Resize(48);
  EXPECT_EQ(trainer.predictor().hidden(), 48);
  const Matrix after = trainer.predictor().Scores(*device_, x);
  for (size_t i = 0; i < before.data.size(); ++i) {
    ASSERT_NEAR(before.data[i], after.data[i], 1e-4 * (1 + std::fabs(before.data[i])));
  }
  trainer.Resize(16);  // the new ones contribute nothing, so they go first
  const Matrix again = trainer.predictor().Scores(*device_, x);
  for (size_t i = 0; i < before.data.size(); ++i) {
    ASSERT_NEAR(before.data[i], again.data[i], 1e-4 * (1 + std::fabs(before.data[i])));
  }
}

TEST_F(Predictors, LowRankFindsAGateOfThatRankExactly) {
  const Planted planted(4, 4);
  const TensorView rows = planted.gate.view();
  const auto made = LowRankPredictors::Create(*device_, rows, planted.samples, kTraining, 8, 1);
  ASSERT_TRUE(made.ok()) << made.status();
  // Rank 4 and the bias: 5 directions.
  const PredictorQuality enough = QualityOf(made->OfRank(8), planted.samples, 0.99);
  EXPECT_GT(enough.precision, 0.95);
  const PredictorQuality too_few = QualityOf(made->OfRank(2), planted.samples, 0.99);
  EXPECT_LT(too_few.precision, 0.8);
  EXPECT_GT(too_few.recall, 0.97);
}

TEST_F(Predictors, LowRankRefusesWeightsThatAreNoNumbers) {
  Planted planted(5, 4);
  planted.gate.row(3)[7] = std::nanf("");
  const auto made =
      LowRankPredictors::Create(*device_, planted.gate.view(), planted.samples, kTraining, 8, 1);
  EXPECT_EQ(made.status().message(), "weights are not finite: row=3 col=7");
}

TEST(CholeskyFactor, GivesTheMatrixBack) {
  Matrix c(3, 3);
  c.data = {4, 2, 1, 2, 5, 3, 1, 3, 6};
  const Matrix l = CholeskyFactor(c);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      float sum = 0;
      for (size_t k = 0; k < 3; ++k) sum += l.row(i)[k] * l.row(j)[k];
      EXPECT_NEAR(sum, c.row(i)[static_cast<size_t>(j)], 1e-4);
    }
  }
}

// A predictor that is as good as its size: of `hidden` units, one per group of neurons, the first
// know the truth.
TEST_F(Predictors, TheSearchStopsWhereBytesPerTokenStopFalling) {
  const Planted planted(6, 4);
  const auto low_rank =
      LowRankPredictors::Create(*device_, planted.gate.view(), planted.samples, kTraining, 64, 1);
  ASSERT_TRUE(low_rank.ok());
  SizingOptions options;
  options.max_bytes = 1 << 20;
  options.neuron_bytes = 3 * kEmbd * kFf * 2;
  options.max_hidden = 64;
  std::vector<int64_t> tried;
  const auto make = [&](int64_t hidden) {
    tried.push_back(hidden);
    return low_rank->OfRank(hidden);
  };
  const SizedPredictor sized =
      ChooseSize(*device_, planted.samples, kCalibration, options, 0.16, make);
  ASSERT_TRUE(sized.exists());
  // 32 units hold the five directions that there are; more cost bytes and tell nothing.
  EXPECT_EQ(sized.predictor.hidden(), 32);
  EXPECT_EQ(tried, (std::vector<int64_t>{32, 64}));
  EXPECT_EQ(sized.dtype, DType::kQ8_0);
  EXPECT_EQ(sized.bytes, PredictorBytes(kEmbd, kFf, 32, DType::kQ8_0));
  EXPECT_GE(sized.quality.recall, 0.985);
}

TEST_F(Predictors, NoneFitsABudgetThatIsTooSmall) {
  const Planted planted(7, 4);
  SizingOptions options;
  options.max_bytes = 100;
  const auto sized = ChooseSize(*device_, planted.samples, kCalibration, options, 0.1,
                                [](int64_t) { return Predictor(); });
  EXPECT_FALSE(sized.exists());
  EXPECT_EQ(sized.n_tried, 0);
}

TEST_F(Predictors, LayersWithoutAnyActiveNeuronPredictEverything) {
  Planted planted(8, 4);
  planted.samples.active = model::ActivityMasks(kFf);
  for (int64_t t = 0; t < kSamples; ++t) {
    planted.samples.active.Add(std::vector<float>(kFf, 0.0f), 0, 0);
  }
  Predictor predictor;
  predictor.fc1 = Matrix(8, kEmbd);
  predictor.fc2 = Matrix(kFf, 8);
  const PredictorQuality quality = QualityOf(predictor, planted.samples, 0.99);
  EXPECT_EQ(quality.recall, 1);
  EXPECT_EQ(quality.predicted_density, 1);
}

}  // namespace
}  // namespace thermocline::tools
