#include "worker/probe/op_probe.h"

#include <algorithm>

#include "base/check.h"
#include "base/rng.h"
#include "base/units.h"
#include "kernels/lanes.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/probe/cache_eviction.h"

namespace thermocline::worker {
namespace {

using placement::WeightRate;
using placement::WeightUse;

// What one call of a product reads: as large as a matrix of a small model, so that its start and
// end weigh what they do there.
constexpr uint64_t kMatrixBytes = 8 * kMiB;
// Rows to choose from, at most: as many as a layer of such a model has neurons.
constexpr uint64_t kMaxRows = 8192;
// Fits an L2 cache with the activations beside it.
constexpr uint64_t kCachedBytes = 256 * kKiB;
// Two of the parts that the CPU's ops hand to a thread; further threads wake and find nothing.
constexpr int64_t kTinyRows = 16;

// What one call takes; `prepare` is not timed.
template <typename Prepare, typename Call>
double SecondsOf(const Clock& clock, Duration slot, Prepare prepare, Call call) {
  std::vector<double> seconds;
  const TimePoint end = clock.Now() + slot;
  do {
    prepare();
    const TimePoint begin = clock.Now();
    call();
    seconds.push_back(Seconds(clock.Now() - begin));
  } while (clock.Now() < end);
  return std::max(UndisturbedSeconds(seconds), 1e-9);
}

}  // namespace

OpProbe::OpProbe(kernels::Device& device, std::span<std::byte> region)
    : device_(device),
      region_(region),
      tiny_w_(kTinyRows * kProbeCols),
      tiny_x_(kProbeCols),
      tiny_y_(kTinyRows) {
  CHECK(region.size() >= kMinBytes);
}

// As many whole rows as fit `n_bytes` and the region.
TensorView OpProbe::Weights(DType dtype, uint64_t n_bytes) const {
  const uint64_t row_bytes = RowBytes(dtype, kProbeCols);
  const uint64_t n_rows = std::min(n_bytes, region_.size() - kernels::kLanesSlackBytes) / row_bytes;
  TensorView w = TensorView::Dense(region_.data(), dtype, static_cast<int64_t>(n_rows), kProbeCols);
  w.layout = device_.PreferredLayout(dtype);
  return w;
}

void OpProbe::MatMul(const TensorView& w, int64_t n_tokens) {
  device_.ops().MatMul(w, TensorView::F32(x_.data(), n_tokens, w.n_cols), TensorView{},
                       TensorView::F32(y_.data(), n_tokens, w.n_rows));
}

// Here and there, ascending, the same at every call.
void OpProbe::ChooseRows(int64_t n_rows, double share) {
  constexpr uint64_t kSeed = 7;
  ids_.resize(static_cast<size_t>(n_rows));
  n_ids_ = 0;
  for (int64_t row = 0; row < n_rows; ++row) {
    if (UniformAt(kSeed, static_cast<uint64_t>(row)) >= share) continue;
    ids_[static_cast<size_t>(n_ids_++)] = static_cast<int32_t>(row);
  }
}

OpProbe::Case OpProbe::CaseOf(const WeightRate& rate) {
  Case test{.n_tokens = rate.n_tokens};
  const uint64_t row_bytes = RowBytes(rate.dtype, kProbeCols);
  if (rate.use == WeightUse::kMatMul) {
    test.weights = Weights(rate.dtype, kMatrixBytes);
    test.bytes = test.weights.bytes();
  } else {
    const double wanted = static_cast<double>(kMatrixBytes) / rate.row_share;
    test.weights =
        Weights(rate.dtype, std::min(kMaxRows * row_bytes, static_cast<uint64_t>(wanted)));
    ChooseRows(test.weights.n_rows, rate.row_share);
    test.bytes = static_cast<uint64_t>(n_ids_) * row_bytes;
  }
  const auto n_values =
      static_cast<size_t>(rate.n_tokens * std::max(kProbeCols, test.weights.n_rows));
  x_.assign(n_values, 0.5f);
  y_.assign(n_values, 0.0f);
  return test;
}

void OpProbe::Run(WeightUse use, const Case& test) {
  const kernels::ActiveIds ids{ids_.data(), &n_ids_, static_cast<int32_t>(ids_.size())};
  const TensorView& w = test.weights;
  const auto view = [&](std::vector<float>& values, int64_t n_cols) {
    return TensorView::F32(values.data(), test.n_tokens, n_cols);
  };
  switch (use) {
    case WeightUse::kMatMul:
      return MatMul(w, test.n_tokens);
    case WeightUse::kNeurons:  // every token needs every neuron of the list
      return device_.ops().Neurons({.up = w}, kernels::Activation::kRelu, view(x_, w.n_cols), ids,
                                   {}, view(y_, w.n_rows));
    case WeightUse::kAxpyRows:
      return device_.ops().AxpyRows(w, view(x_, w.n_rows), ids, {}, view(y_, w.n_cols));
  }
}

void OpProbe::Evict(const Case& test) const {
  if (n_ids_ == 0) {
    return EvictFromCaches({test.weights.data, static_cast<size_t>(test.weights.bytes())});
  }
  for (int32_t i = 0; i < n_ids_; ++i) {
    EvictFromCaches({test.weights.row(ids_[static_cast<size_t>(i)]),
                     static_cast<size_t>(test.weights.row_stride_bytes)});
  }
}

// Threads that fell asleep meanwhile would be late for the op that counts: within a step they spin
// from one op to the next.
void OpProbe::WakeThreads() { (void)TinyOpSeconds(Duration{0}); }

double OpProbe::BytesPerS(const WeightRate& rate, Duration slot) {
  n_ids_ = 0;
  const Case test = CaseOf(rate);
  if (test.bytes == 0) return 0;
  const double seconds = SecondsOf(
      clock_, slot,
      [&] {
        Evict(test);
        WakeThreads();
      },
      [&] { Run(rate.use, test); });
  return static_cast<double>(test.bytes) / seconds;
}

double OpProbe::FlopsPerS(DType dtype, int n_tokens, Duration slot) {
  const TensorView w = Weights(dtype, kCachedBytes);
  x_.assign(static_cast<size_t>(n_tokens * kProbeCols), 0.5f);
  y_.resize(static_cast<size_t>(n_tokens * w.n_rows));
  MatMul(w, n_tokens);  // fetches the weights
  const double seconds = SecondsOf(
      clock_, slot, [] {}, [&] { MatMul(w, n_tokens); });
  return 2.0 * static_cast<double>(n_tokens * w.n_rows * w.n_cols) / seconds;
}

double OpProbe::TinyOpSeconds(Duration slot) {
  const TensorView w = TensorView::Dense(tiny_w_.data(), DType::kF16, kTinyRows, kProbeCols);
  const TensorView x = TensorView::F32(tiny_x_.data(), 1, kProbeCols);
  const TensorView y = TensorView::F32(tiny_y_.data(), 1, kTinyRows);
  const auto call = [&] { device_.ops().MatMul(w, x, TensorView{}, y); };
  call();
  return SecondsOf(
      clock_, slot, [] {}, call);
}

}  // namespace thermocline::worker
