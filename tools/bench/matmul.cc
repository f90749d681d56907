// MatMul of an FFN's up projection: w[n_ff, n_embd], as many tokens as a decode, a batch, a prompt.
#include "base/str.h"
#include "tools/bench/bench_box.h"

namespace thermocline::tools {
namespace {

Status Run(BenchBox& box, benchmark::State& state, DType dtype, int64_t n_tokens) {
  TC_ASSIGN_OR_RETURN(WeightRing* const ring, box.Ring(dtype, kBenchFf, kBenchEmbd));
  FloatMatrix x(n_tokens, kBenchEmbd, 1), y(n_tokens, kBenchFf, 2);
  const double flops = 2.0 * static_cast<double>(n_tokens * kBenchFf * kBenchEmbd);
  box.Measure(state, {flops, 0}, [&](kernels::Ops& ops) {
    ops.MatMul(ring->Next(), x.view(), TensorView{}, y.view());
  });
  return OkStatus();
}

}  // namespace

void RegisterMatMul(BenchBox* box) {
  for (const DType dtype : kBenchDTypes) {
    for (const int64_t n_tokens : {1, 4, 16, 64}) {
      box->Register(
          Str("MatMul/", DTypeName(dtype), "/tokens:", n_tokens),
          [=](BenchBox& b, benchmark::State& state) { return Run(b, state, dtype, n_tokens); });
    }
  }
}

}  // namespace thermocline::tools
