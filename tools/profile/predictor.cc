#include "tools/profile/predictor.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/quantize.h"

namespace thermocline::tools {
namespace {

// Rows scored together: enough for the kernels to reuse a weight row, few enough to stay small.
constexpr int64_t kRowsAtOnce = 256;

// Calls fn(scores, first sample) for blocks of the range.
template <typename Fn>
void ForScores(kernels::Device& device, const Predictor& predictor, const LayerSamples& samples,
               SampleRange range, const Fn& fn) {
  for (int64_t at = range.begin; at < range.end; at += kRowsAtOnce) {
    const int64_t n = std::min(kRowsAtOnce, range.end - at);
    fn(predictor.Scores(device, samples.Rows(at, n)), at);
  }
}

Matrix RoundTrip(const Matrix& matrix, DType dtype) {
  const std::vector<std::byte> bytes = EncodeRows(matrix, dtype);
  Matrix decoded(matrix.rows, matrix.cols);
  const uint64_t row_bytes = RowBytes(dtype, static_cast<uint64_t>(matrix.cols));
  for (int64_t i = 0; i < matrix.rows; ++i) {
    kernels::DequantizeRow(dtype, bytes.data() + static_cast<uint64_t>(i) * row_bytes, matrix.cols,
                           decoded.row(i).data());
  }
  return decoded;
}

}  // namespace

Matrix Predictor::Scores(kernels::Device& device, TensorView x) const {
  Matrix hidden = Product(device, fc1.view(), x);
  if (!linear) {
    for (float& h : hidden.data) h = std::max(h, 0.0f);
  }
  return Product(device, fc2.view(), hidden.view());
}

float CalibrateThreshold(kernels::Device& device, const Predictor& predictor,
                         const LayerSamples& samples, SampleRange range, double recall) {
  std::vector<float> scores_of_active;
  ForScores(device, predictor, samples, range, [&](const Matrix& scores, int64_t first) {
    for (int64_t t = 0; t < scores.rows; ++t) {
      for (int64_t i = 0; i < scores.cols; ++i) {
        if (samples.active.active(static_cast<size_t>(first + t), i)) {
          scores_of_active.push_back(scores.row(t)[static_cast<size_t>(i)]);
        }
      }
    }
  });
  if (scores_of_active.empty()) return -std::numeric_limits<float>::infinity();
  const auto n = static_cast<double>(scores_of_active.size());
  const auto kept = static_cast<size_t>(std::ceil(recall * n));
  const auto last =
      scores_of_active.begin() +
      static_cast<std::ptrdiff_t>(std::clamp<size_t>(kept, 1, scores_of_active.size()) - 1);
  std::nth_element(scores_of_active.begin(), last, scores_of_active.end(), std::greater<>());
  return *last;
}

PredictorQuality MeasureQuality(kernels::Device& device, const Predictor& predictor,
                                const LayerSamples& samples, SampleRange range, float threshold) {
  uint64_t n_active = 0, n_predicted = 0, n_both = 0, n_pairs = 0;
  ForScores(device, predictor, samples, range, [&](const Matrix& scores, int64_t first) {
    n_pairs += scores.data.size();
    for (int64_t t = 0; t < scores.rows; ++t) {
      for (int64_t i = 0; i < scores.cols; ++i) {
        const bool active = samples.active.active(static_cast<size_t>(first + t), i);
        const bool predicted = scores.row(t)[static_cast<size_t>(i)] >= threshold;
        n_active += active ? 1 : 0;
        n_predicted += predicted ? 1 : 0;
        n_both += active && predicted ? 1 : 0;
      }
    }
  });
  const auto share = [](uint64_t part, uint64_t whole, double if_none) {
    return whole == 0 ? if_none : static_cast<double>(part) / static_cast<double>(whole);
  };
  return {threshold, share(n_both, n_active, 1), share(n_both, n_predicted, 1),
          share(n_active, n_pairs, 0), share(n_predicted, n_pairs, 0)};
}

Predictor RoundTrip(const Predictor& predictor, DType dtype) {
  return {predictor.linear, RoundTrip(predictor.fc1, dtype), RoundTrip(predictor.fc2, dtype)};
}

bool FitsType(const Predictor& predictor, DType dtype) {
  const auto block = static_cast<int64_t>(Traits(dtype).block_elems);
  return predictor.fc1.cols % block == 0 && predictor.fc2.cols % block == 0;
}

uint64_t PredictorBytes(int64_t n_embd, int64_t n_ff, int64_t hidden, DType dtype) {
  return static_cast<uint64_t>(hidden) * RowBytes(dtype, static_cast<uint64_t>(n_embd)) +
         static_cast<uint64_t>(n_ff) * RowBytes(dtype, static_cast<uint64_t>(hidden));
}

std::vector<std::byte> EncodeRows(const Matrix& matrix, DType dtype) {
  const uint64_t row_bytes = RowBytes(dtype, static_cast<uint64_t>(matrix.cols));
  std::vector<std::byte> bytes(static_cast<uint64_t>(matrix.rows) * row_bytes);
  for (int64_t i = 0; i < matrix.rows; ++i) {
    kernels::QuantizeRow(dtype, matrix.row(i), bytes.data() + static_cast<uint64_t>(i) * row_bytes);
  }
  return bytes;
}

}  // namespace thermocline::tools
