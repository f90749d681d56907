// A predictor of one layer's active neurons, and how good it is.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "kernels/device.h"
#include "tools/profile/matrix.h"
#include "tools/profile/predictor_samples.h"

namespace thermocline::tools {

// scores = fc2 relu(fc1 x), or fc2 (fc1 x) when `linear`. Thread-compatible.
struct Predictor {
  bool linear = false;
  Matrix fc1;  // [r, n_embd]
  Matrix fc2;  // [n_ff, r]

  int64_t hidden() const { return fc1.rows; }
  // scores[x.rows, n_ff].
  Matrix Scores(kernels::Device& device, TensorView x) const;
};

// A predictor with the threshold that a neuron's score must reach, measured on samples.
struct PredictorQuality {
  float threshold = 0;
  double recall = 0;             // of the active, those predicted
  double precision = 0;          // of the predicted, those active
  double density = 0;            // of all, those active
  double predicted_density = 0;  // of all, those predicted
};

// Samples [begin, end) of a layer.
struct SampleRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The largest threshold at which at least `recall` of the active pairs of the range reach it;
// -infinity when none is active.
float CalibrateThreshold(kernels::Device& device, const Predictor& predictor,
                         const LayerSamples& samples, SampleRange range, double recall);

// What a threshold gives on the range.
PredictorQuality MeasureQuality(kernels::Device& device, const Predictor& predictor,
                                const LayerSamples& samples, SampleRange range, float threshold);

// `predictor` as it is after being stored in `dtype` and read again.
Predictor RoundTrip(const Predictor& predictor, DType dtype);
// Whether rows of fc1 and fc2 are whole blocks of `dtype`.
bool FitsType(const Predictor& predictor, DType dtype);
// Bytes of both matrices in `dtype`.
uint64_t PredictorBytes(int64_t n_embd, int64_t n_ff, int64_t hidden, DType dtype);
// The rows of a matrix in the file's encoding.
std::vector<std::byte> EncodeRows(const Matrix& matrix, DType dtype);

}  // namespace thermocline::tools
