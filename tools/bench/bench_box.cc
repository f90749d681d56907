#include "tools/bench/bench_box.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/host_info.h"
#include "base/rng.h"
#include "tools/machine/machine_info.h"
#include "tools/machine/random_weights.h"

namespace thermocline::tools {

uint64_t RingBytes() {
  return std::clamp(2 * std::min(LastLevelCacheBytes(), kGiB), 256 * kMiB, 1 * kGiB);
}

Result<WeightRing> WeightRing::Create(kernels::Device& device, DType dtype, int64_t n_rows,
                                      int64_t n_cols) {
  constexpr uint64_t kSeed = 7;
  TC_ASSIGN_OR_RETURN(const Buffer buffer, RandomWeights(dtype, n_rows, n_cols, kSeed));
  const TensorView weight = TensorView::Dense(buffer.data(), dtype, n_rows, n_cols);
  WeightRing ring;
  const uint64_t n_copies = DivCeil(RingBytes(), weight.bytes());
  for (uint64_t i = 0; i < n_copies; ++i) {
    TC_ASSIGN_OR_RETURN(std::byte* const at, ring.memory_.Allocate(weight.bytes(), device));
    TensorView copy = TensorView::Dense(at, dtype, n_rows, n_cols);
    copy.layout = device.PreferredLayout(dtype);
    device.Pack(weight, copy);
    ring.weights_.push_back(copy);
  }
  return ring;
}

bool WeightRing::Holds(DType dtype, int64_t n_rows, int64_t n_cols) const {
  if (weights_.empty()) return false;
  const TensorView& weight = weights_.front();
  return weight.dtype == dtype && weight.n_rows == n_rows && weight.n_cols == n_cols;
}

Result<std::unique_ptr<BenchBox>> BenchBox::Create(int n_threads) {
  TC_ASSIGN_OR_RETURN(auto device, kernels::MakeCpuDevice({n_threads}));
  TC_ASSIGN_OR_RETURN(auto pool, ThreadPool::Create({.n_threads = n_threads, .name = "probe"}));
  const uint64_t probe_bytes =
      worker::ProbeBufferBytes(LastLevelCacheBytes(), AvailableMemoryBytes());
  TC_ASSIGN_OR_RETURN(worker::BandwidthProbe probe, worker::BandwidthProbe::Create(probe_bytes));
  return std::unique_ptr<BenchBox>(
      new BenchBox(std::move(device), std::move(pool), std::move(probe)));
}

Result<WeightRing*> BenchBox::Ring(DType dtype, int64_t n_rows, int64_t n_cols) {
  if (!ring_.Holds(dtype, n_rows, n_cols)) {
    ring_ = WeightRing();  // never two at once
    TC_ASSIGN_OR_RETURN(ring_, WeightRing::Create(*device_, dtype, n_rows, n_cols));
  }
  return &ring_;
}

void BenchBox::Measure(benchmark::State& state, const CallCost& cost,
                       const std::function<void(kernels::Ops&)>& fn) {
  const SteadyClock clock;
  kernels::Ops& ops = device_->ops();
  fn(ops);  // scratch and caches of small things
  const double stream_before = probe_.Stream(*pool_);
  const kernels::Traffic before = ops.traffic();
  const TimePoint begin = clock.Now();
  for (auto _ : state) fn(ops);
  const double seconds = Seconds(clock.Now() - begin);
  const double stream = (stream_before + probe_.Stream(*pool_)) / 2;
  const kernels::Traffic read = ops.traffic() - before;
  const auto n_calls = static_cast<double>(state.iterations());
  const double n_bytes =
      static_cast<double>(read.weight_bytes + read.kv_bytes) + cost.bytes * n_calls;
  state.counters["GB_per_s"] = n_bytes / seconds / 1e9;
  state.counters["GFLOP_per_s"] = cost.flops * n_calls / seconds / 1e9;
  state.counters["stream_GB_per_s"] = stream / 1e9;
  state.counters["stream_pct"] = 100 * n_bytes / seconds / stream;
}

void BenchBox::Register(const std::string& name, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), [this, body](benchmark::State& state) {
    const Status status = body(*this, state);
    if (!status.ok()) state.SkipWithError(status.message().c_str());
  })->UseRealTime();
}

FloatMatrix::FloatMatrix(int64_t n_rows, int64_t n_cols, uint64_t seed)
    : n_rows_(n_rows), n_cols_(n_cols), values_(static_cast<size_t>(n_rows * n_cols)) {
  for (size_t i = 0; i < values_.size(); ++i) {
    values_[i] = static_cast<float>(UniformAt(seed, i) * 2 - 1);
  }
}

RandomIds::RandomIds(int64_t n, double share, uint64_t seed)
    : ids_(kLists, std::vector<int32_t>(static_cast<size_t>(n))), counts_(kLists) {
  uint64_t drawn = 0;
  for (size_t list = 0; list < kLists; ++list) {
    for (int32_t i = 0; i < n; ++i) {
      if (UniformAt(seed, drawn++) >= share) continue;
      ids_[list][static_cast<size_t>(counts_[list]++)] = i;
    }
  }
}

kernels::ActiveIds RandomIds::Next() {
  const size_t list = next_++ % kLists;
  return {ids_[list].data(), &counts_[list], static_cast<int32_t>(ids_[list].size())};
}

double RandomIds::mean_count() const {
  return static_cast<double>(std::accumulate(counts_.begin(), counts_.end(), int64_t{0})) / kLists;
}

}  // namespace thermocline::tools
