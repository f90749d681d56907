// What every micro-benchmark shares: the device, memory to read from, and how a case is reported.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "base/thread_pool.h"
#include "kernels/device.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/weight_memory.h"

namespace thermocline::tools {

// Twice the last level's cache, within 256 MiB and 1 GiB.
uint64_t RingBytes();

// The layer that the cases are cut from: that of the reference model of docs/benchmarks.md.
inline constexpr int64_t kBenchEmbd = 2048;
inline constexpr int64_t kBenchFf = 8192;

// Weights to compute with, all of them; I32 is none.
inline constexpr DType kBenchDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                         DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// Copies of one random weight w[n_rows, n_cols], together RingBytes(): each call of an op takes the
// next one, so that weights come from memory as they do in a model, and lie there as in a shard.
class WeightRing {
 public:
  static Result<WeightRing> Create(kernels::Device& device, DType dtype, int64_t n_rows,
                                   int64_t n_cols);
  TensorView Next() { return weights_[next_++ % weights_.size()]; }
  bool Holds(DType dtype, int64_t n_rows, int64_t n_cols) const;

 private:
  worker::WeightMemory memory_;
  std::vector<TensorView> weights_;
  size_t next_ = 0;
};

// What one call of the measured function does, where the device's traffic does not tell.
struct CallCost {
  double flops = 0;
  double bytes = 0;  // read and written besides the weights and KV that the device counts
};

// Owns device and probe. One thread.
class BenchBox {
 public:
  static Result<std::unique_ptr<BenchBox>> Create(int n_threads);

  kernels::Device& device() { return *device_; }

  // The copies are kept until another weight is asked for: the library calls a case several times.
  Result<WeightRing*> Ring(DType dtype, int64_t n_rows, int64_t n_cols);

  // Calls fn(ops) until the library has enough, and sets the counters GB_per_s, GFLOP_per_s,
  // stream_GB_per_s (measured just before and after, with as many threads) and stream_pct.
  void Measure(benchmark::State& state, const CallCost& cost,
               const std::function<void(kernels::Ops&)>& fn);

  // A function that registers one case: its body runs when the library gets to it, with the
  // memory it needs made then. A failed Status skips the case and names the reason.
  using Body = std::function<Status(BenchBox&, benchmark::State&)>;
  void Register(const std::string& name, Body body);

 private:
  BenchBox(std::unique_ptr<kernels::Device> device, std::unique_ptr<ThreadPool> pool,
           worker::BandwidthProbe probe)
      : device_(std::move(device)), pool_(std::move(pool)), probe_(std::move(probe)) {}

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<ThreadPool> pool_;
  worker::BandwidthProbe probe_;
  WeightRing ring_;
};

// Floats of ordinary size, F32[n_rows, n_cols].
class FloatMatrix {
 public:
  FloatMatrix(int64_t n_rows, int64_t n_cols, uint64_t seed);
  TensorView view() { return TensorView::F32(values_.data(), n_rows_, n_cols_); }
  std::vector<float>& values() { return values_; }

 private:
  int64_t n_rows_, n_cols_;
  std::vector<float> values_;
};

// Several lists of ascending random ids of `share` of n neurons, so that the same rows of a copy do
// not come back soon.
class RandomIds {
 public:
  RandomIds(int64_t n, double share, uint64_t seed);
  kernels::ActiveIds Next();
  double mean_count() const;

 private:
  // A prime, which no ring of copies divides: list and copy meet again after many calls.
  static constexpr size_t kLists = 31;
  std::vector<std::vector<int32_t>> ids_;
  std::vector<int32_t> counts_;
  size_t next_ = 0;
};

// Each registers the cases of its operators.
void RegisterMatMul(BenchBox* box);
void RegisterFfn(BenchBox* box);
void RegisterAttention(BenchBox* box);
void RegisterSmallOps(BenchBox* box);
void RegisterSampler(BenchBox* box);

}  // namespace thermocline::tools
