#include "tools/inspect/machine_rates.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/host_info.h"
#include "base/thread_pool.h"
#include "kernels/device.h"
#include "tools/machine/prepared_weight.h"
#include "tools/machine/random_weights.h"
#include "worker/probe/bandwidth_probe.h"

namespace thermocline::tools {
namespace {

// Long enough for the clock; the best of several, since others may have the cores for a while.
constexpr double kWindowSeconds = 0.005;
constexpr int kWindows = 5;
// Every type's blocks divide the row; with few threads it fits their L2 caches, 2 MiB in F32.
constexpr int64_t kRows = 512, kCols = 1024;

// FLOP per second of w x for `n_tokens` tokens, w in the caches.
double MatMulRate(kernels::Ops& ops, TensorView w, int64_t n_tokens) {
  const SteadyClock clock;
  std::vector<float> x(static_cast<size_t>(n_tokens * w.n_cols), 0.5f);
  std::vector<float> y(static_cast<size_t>(n_tokens * w.n_rows));
  const TensorView x_view = TensorView::F32(x.data(), n_tokens, w.n_cols);
  const TensorView y_view = TensorView::F32(y.data(), n_tokens, w.n_rows);
  ops.MatMul(w, x_view, TensorView{}, y_view);
  double calls_per_s = 0;
  for (int window = 0; window < kWindows; ++window) {
    const TimePoint begin = clock.Now();
    int n_calls = 0;
    double seconds = 0;
    while (seconds < kWindowSeconds) {
      ops.MatMul(w, x_view, TensorView{}, y_view);
      ++n_calls;
      seconds = Seconds(clock.Now() - begin);
    }
    calls_per_s = std::max(calls_per_s, n_calls / seconds);
  }
  return 2.0 * static_cast<double>(n_tokens * w.n_rows * w.n_cols) * calls_per_s;
}

Result<FlopRates> MeasureType(kernels::Device& device, DType dtype) {
  constexpr uint64_t kSeed = 5;
  TC_ASSIGN_OR_RETURN(const Buffer buffer, RandomWeights(dtype, kRows, kCols, kSeed));
  const TensorView in_file = TensorView::Dense(buffer.data(), dtype, kRows, kCols);
  TC_ASSIGN_OR_RETURN(const PreparedWeight weight, PrepareWeight(device, in_file));
  return FlopRates{MatMulRate(device.ops(), weight.view, 1),
                   MatMulRate(device.ops(), weight.view, kPrefillTokens)};
}

}  // namespace

Result<MachineRates> MeasureRates(int n_threads, std::span<const DType> dtypes) {
  MachineRates rates;
  rates.n_threads = n_threads;
  TC_ASSIGN_OR_RETURN(const auto device, kernels::MakeCpuDevice({n_threads}));
  TC_ASSIGN_OR_RETURN(const auto pool,
                      ThreadPool::Create({.n_threads = n_threads, .name = "probe"}));
  // One slice: a larger buffer would take longer to fill than to measure.
  const uint64_t n_bytes = worker::ProbeBufferBytes(0, AvailableMemoryBytes());
  TC_ASSIGN_OR_RETURN(worker::BandwidthProbe probe, worker::BandwidthProbe::Create(n_bytes));
  rates.device = device->name();
  constexpr int kPasses = 3;
  for (int i = 0; i < kPasses; ++i) {
    rates.bytes_per_s = std::max(rates.bytes_per_s, probe.Stream(*pool));
    rates.gather_bytes_per_s = std::max(rates.gather_bytes_per_s, probe.Gather(*pool));
  }
  TC_ASSIGN_OR_RETURN(rates.flops[DType::kF32], MeasureType(*device, DType::kF32));
  for (const DType dtype : dtypes) {
    if (rates.flops.contains(dtype)) continue;
    TC_ASSIGN_OR_RETURN(rates.flops[dtype], MeasureType(*device, dtype));
  }
  return rates;
}

}  // namespace thermocline::tools
