#include "tools/profile/predictor_sizing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

namespace thermocline::tools {
namespace {

// Rows of fc2 are then whole blocks of Q8_0.
constexpr int64_t kSizeUnit = 32;
// A threshold chosen on one half of the samples misses the target on the other by chance; a tenth
// of the allowed misses is kept back for that.
constexpr double kMissesKeptBack = 0.1;
// A size must save this share of the bytes per token to be preferred to the one before.
constexpr double kMinSaving = 0.005;
// From this Gini coefficient on a few neurons do most of the work, and small sizes are tried first.
constexpr double kSkewed = 0.5;

int64_t RoundToUnit(double size) {
  return std::max(kSizeUnit, static_cast<int64_t>(std::ceil(size / kSizeUnit)) * kSizeUnit);
}

DType SmallestType(int64_t n_embd) { return n_embd % kSizeUnit == 0 ? DType::kQ8_0 : DType::kF16; }

// The largest size whose bytes fit; 0 when none does.
int64_t LargestSize(int64_t n_embd, int64_t n_ff, uint64_t max_bytes) {
  const uint64_t unit_bytes = PredictorBytes(n_embd, n_ff, kSizeUnit, SmallestType(n_embd));
  return static_cast<int64_t>(max_bytes / unit_bytes) * kSizeUnit;
}

// Rounds the predictor to each type that fits and keeps the one with the fewest bytes per token.
SizedPredictor Measure(kernels::Device& device, const LayerSamples& samples,
                       const CalibrationRanges& ranges, const SizingOptions& options,
                       Predictor predictor) {
  const double wanted = options.recall + (1 - options.recall) * kMissesKeptBack;
  std::optional<SizedPredictor> best;
  for (const DType dtype : {DType::kQ8_0, DType::kF16}) {
    if (!FitsType(predictor, dtype)) continue;
    SizedPredictor sized;
    sized.dtype = dtype;
    sized.bytes = PredictorBytes(predictor.fc1.cols, predictor.fc2.rows, predictor.hidden(), dtype);
    if (sized.bytes > options.max_bytes) continue;
    const Predictor rounded = RoundTrip(predictor, dtype);
    const float threshold = CalibrateThreshold(device, rounded, samples, ranges.threshold, wanted);
    sized.quality = MeasureQuality(device, rounded, samples, ranges.judged, threshold);
    if (!best ||
        sized.BytesPerToken(options.neuron_bytes) < best->BytesPerToken(options.neuron_bytes)) {
      best = std::move(sized);
    }
  }
  if (!best) return {};
  best->predictor = std::move(predictor);
  return std::move(*best);
}

// One search; lives in ChooseSize.
class SizeSearch {
 public:
  SizeSearch(kernels::Device& device, const LayerSamples& samples, const CalibrationRanges& ranges,
             const SizingOptions& options, int64_t largest, const MakePredictorFn& make)
      : device_(device),
        samples_(samples),
        ranges_(ranges),
        options_(options),
        largest_(largest),
        make_(make) {}

  SizedPredictor Run(int64_t start) {
    best_ = Try(start);
    // Shrinking is cheap to try and seldom right for evenly used neurons; growing the reverse.
    const bool shrink_first = options_.gini >= kSkewed;
    if (!Walk(shrink_first)) Walk(!shrink_first);
    best_.n_tried = n_tried_;
    return std::move(best_);
  }

 private:
  SizedPredictor Try(int64_t hidden) {
    ++n_tried_;
    return Measure(device_, samples_, ranges_, options_, make_(hidden));
  }

  // Goes on in one direction while it pays; whether it did at all.
  bool Walk(bool shrink) {
    bool has_paid = false;
    while (true) {
      const int64_t size = best_.predictor.hidden();
      const double wanted = static_cast<double>(size) * (shrink ? 0.5 : 1.5);
      const int64_t next = std::min(RoundToUnit(wanted), largest_);
      if (next == size || (shrink && next > size)) return has_paid;
      SizedPredictor tried = Try(next);
      const double limit = best_.BytesPerToken(options_.neuron_bytes) * (1 - kMinSaving);
      if (!tried.exists() || tried.BytesPerToken(options_.neuron_bytes) > limit) return has_paid;
      best_ = std::move(tried);
      has_paid = true;
    }
  }

  kernels::Device& device_;
  const LayerSamples& samples_;
  const CalibrationRanges& ranges_;
  const SizingOptions& options_;
  const int64_t largest_;
  const MakePredictorFn& make_;
  SizedPredictor best_;
  int n_tried_ = 0;
};

}  // namespace

// Through two points that follow from PowerInfer's published predictors (section 5.1): 0.88 G
// parameters for OPT-13B are 0.17 n_embd per layer, at 3 % density; 5.66 G for Llama-2-70B are
// 0.23, at 18 %.
int64_t StartingSize(int64_t n_embd, double density, int64_t max_hidden) {
  const double wanted = 0.31 * static_cast<double>(n_embd) * std::pow(density, 0.17);
  return std::min(RoundToUnit(wanted), max_hidden);
}

SizedPredictor ChooseSize(kernels::Device& device, const LayerSamples& samples,
                          const CalibrationRanges& ranges, const SizingOptions& options,
                          double density, const MakePredictorFn& make) {
  int64_t largest = LargestSize(samples.n_embd, samples.active.n_ff(), options.max_bytes);
  if (options.max_hidden > 0) largest = std::min(largest, options.max_hidden);
  if (largest == 0) return {};
  const int64_t start = StartingSize(samples.n_embd, density, largest);
  return SizeSearch(device, samples, ranges, options, largest, make).Run(start);
}

}  // namespace thermocline::tools
