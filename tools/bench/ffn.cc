// The sparse half of an FFN: gate and up of random active neurons, and the rows that they add.
#include "base/str.h"
#include "tools/bench/bench_box.h"

namespace thermocline::tools {
namespace {

constexpr double kShares[] = {0.1, 0.3};
constexpr uint64_t kIdSeed = 11;

// Gate and up of each active neuron for one token, as a predictor would ask for them.
Status RunNeurons(BenchBox& box, benchmark::State& state, DType dtype, double share) {
  TC_ASSIGN_OR_RETURN(WeightRing* const ring, box.Ring(dtype, kBenchFf, kBenchEmbd));
  RandomIds active(kBenchFf, share, kIdSeed);
  FloatMatrix x(1, kBenchEmbd, 1), a(1, kBenchFf, 2);
  const double flops = 4.0 * active.mean_count() * kBenchEmbd;
  box.Measure(state, {flops, 0}, [&](kernels::Ops& ops) {
    kernels::NeuronWeights weights;
    weights.gate = ring->Next();
    weights.up = ring->Next();
    ops.Neurons(weights, kernels::Activation::kRelu, x.view(), active.Next(), {}, a.view());
  });
  return OkStatus();
}

Status RunAxpyRows(BenchBox& box, benchmark::State& state, DType dtype, double share) {
  TC_ASSIGN_OR_RETURN(WeightRing* const ring, box.Ring(dtype, kBenchFf, kBenchEmbd));
  RandomIds active(kBenchFf, share, kIdSeed);
  FloatMatrix a(1, kBenchFf, 1), y(1, kBenchEmbd, 2);
  const double flops = 2.0 * active.mean_count() * kBenchEmbd;
  box.Measure(state, {flops, 0}, [&](kernels::Ops& ops) {
    ops.AxpyRows(ring->Next(), a.view(), active.Next(), TensorView{}, y.view());
  });
  return OkStatus();
}

}  // namespace

void RegisterFfn(BenchBox* box) {
  for (const DType dtype : kBenchDTypes) {
    for (const double share : kShares) {
      const std::string suffix =
          Str("/", DTypeName(dtype), "/active_pct:", static_cast<int>(share * 100));
      box->Register(Str("Neurons", suffix), [=](BenchBox& b, benchmark::State& state) {
        return RunNeurons(b, state, dtype, share);
      });
      box->Register(Str("AxpyRows", suffix), [=](BenchBox& b, benchmark::State& state) {
        return RunAxpyRows(b, state, dtype, share);
      });
    }
  }
}

}  // namespace thermocline::tools
