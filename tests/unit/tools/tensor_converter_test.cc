#include "tools/convert/tensor_converter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

using ::testing::HasSubstr;
using thermocline::testing::IsOk;

constexpr int64_t kEmbd = 64, kFf = 320;

// A model of one tensor, values[n_rows, n_cols] in F32.
class TensorConverterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() / "tensor_converter_test.gguf").string() +
            std::to_string(getpid());
    values_.resize(kEmbd * kFf);
    for (size_t i = 0; i < values_.size(); ++i) {
      values_[i] = static_cast<float>(UniformAt(1, i) - 0.5);
    }
    source_.tensors.resize(1);
    tensor().name = "blk.0.ffn_down.weight";
    tensor().shape = {kEmbd, kFf};
    tensor().view = TensorView::F32(values_.data(), kEmbd, kFf);
  }
  void TearDown() override { std::filesystem::remove(path_); }
  SourceTensor& tensor() { return source_.tensors[0]; }

  // Converts the tensor; the file's values are in got_ when that went well.
  Result<TensorErrors> Convert(const ConversionOptions& options) {
    TC_ASSIGN_OR_RETURN(const ConversionPlan plan, PlanConversion(source_, options));
    TC_ASSIGN_OR_RETURN(auto writer,
                        model::GgufWriter::Create(path_, model::GgufDialect::kGguf, plan.metadata,
                                                  {plan.tensors[0].target}));
    TC_ASSIGN_OR_RETURN(auto pool, ThreadPool::Create({2, "test", {}}));
    ProgressBar bar("test", 1 << 30);
    TensorConverter converter(*writer, *pool, bar, {true});
    TC_ASSIGN_OR_RETURN(const TensorErrors errors, converter.Convert(plan.tensors[0], 0));
    TC_RETURN_IF_ERROR(writer->Finish());
    TC_ASSIGN_OR_RETURN(const SourceModel written, OpenSource(path_));
    got_.resize(values_.size());
    const SourceTensor& result = written.tensors[0];
    ReadRows(result, 0, result.view.n_rows, got_.data());
    return errors;
  }

  std::string path_;
  std::vector<float> values_, got_;
  SourceModel source_;
};

TEST_F(TensorConverterTest, NeuronRowsOfFloatsAreExact) {
  ConversionOptions options;
  options.neuron_rows = true;
  const auto errors = Convert(options);
  ASSERT_THAT(errors.status(), IsOk());
  EXPECT_EQ(errors->stored.error_squares, 0);
  for (int64_t r = 0; r < kEmbd; ++r) {
    for (int64_t c = 0; c < kFf; ++c) ASSERT_EQ(got_[c * kEmbd + r], values_[r * kFf + c]);
  }
}

TEST_F(TensorConverterTest, TheErrorIsThatOfTheFile) {
  ConversionOptions options;
  options.dtype = DType::kQ4_0;
  const auto errors = Convert(options);
  ASSERT_THAT(errors.status(), IsOk());
  double error = 0, norm = 0, most = 0;
  for (size_t i = 0; i < values_.size(); ++i) {
    const double difference = double{got_[i]} - values_[i];
    error += difference * difference;
    norm += double{values_[i]} * values_[i];
    most = std::max(most, std::fabs(difference));
  }
  EXPECT_NEAR(errors->stored.relative_rms(), std::sqrt(error / norm), 1e-12);
  EXPECT_EQ(errors->stored.max_error, most);
  EXPECT_GT(errors->stored.relative_rms(), errors->symmetric.relative_rms());
  EXPECT_GT(errors->symmetric.relative_rms(), errors->asymmetric.relative_rms());
}

// Rope pairs (x_i, x_i+2) of a head of 4 become (x_2i, x_2i+1).
TEST_F(TensorConverterTest, HeadsAreInterleaved) {
  tensor().interleave_head_dim = 4;
  ASSERT_THAT(Convert({}).status(), IsOk());
  const int64_t from[] = {0, 2, 1, 3};
  for (int64_t r = 0; r < kEmbd; ++r) {
    const int64_t source = r / 4 * 4 + from[r % 4];
    ASSERT_EQ(got_[r * kFf + 7], values_[source * kFf + 7]) << r;
  }
}

TEST_F(TensorConverterTest, ABiasIsInterleavedToo) {
  tensor().shape = {kEmbd};
  tensor().view = TensorView::F32(values_.data(), kEmbd, 1);
  tensor().interleave_head_dim = 4;
  tensor().add = 1;
  ASSERT_THAT(Convert({}).status(), IsOk());
  EXPECT_EQ(got_[1], values_[2] + 1);
  EXPECT_EQ(got_[62], values_[61] + 1);
}

TEST_F(TensorConverterTest, ValuesThatAreNotFiniteAreNamed) {
  values_[5 * kFf + 9] = std::numeric_limits<float>::infinity();
  values_[63 * kFf] = std::nanf("");
  const auto errors = Convert({});
  EXPECT_EQ(errors.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(errors.status().message(),
              HasSubstr("not finite: blk.0.ffn_down.weight row=5 column=9 value=inf"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(TensorConverterTest, ValuesBeyondTheTypeAreNamed) {
  values_[2 * kFf + 1] = 1e6f;
  ConversionOptions options;
  options.dtype = DType::kF16;
  EXPECT_THAT(Convert(options).status().message(),
              HasSubstr("too large for F16: blk.0.ffn_down.weight row=2 column=1"));
}

}  // namespace
}  // namespace thermocline::tools
