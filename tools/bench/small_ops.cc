// The ops between the products: they read activations, which lie in the caches.
#include <numeric>

#include "base/rng.h"
#include "base/str.h"
#include "tools/bench/bench_box.h"

namespace thermocline::tools {
namespace {

constexpr int kHeadDim = 128;
constexpr double kFloatBytes = 4;

Status RunRmsNorm(BenchBox& box, benchmark::State& state, int64_t n_tokens) {
  FloatMatrix x(n_tokens, kBenchEmbd, 1), weight(1, kBenchEmbd, 2), y(n_tokens, kBenchEmbd, 3);
  const auto n = static_cast<double>(n_tokens * kBenchEmbd);
  box.Measure(state, {4 * n, 2 * kFloatBytes * n},
              [&](kernels::Ops& ops) { ops.RmsNorm(x.view(), weight.view(), 1e-5f, y.view()); });
  return OkStatus();
}

Status RunRope(BenchBox& box, benchmark::State& state, int64_t n_tokens) {
  FloatMatrix x(n_tokens, kBenchEmbd, 1);
  std::vector<int64_t> positions(static_cast<size_t>(n_tokens));
  const kernels::RopeArgs args{.n_rot = kHeadDim};
  const auto n = static_cast<double>(n_tokens * kBenchEmbd);
  int64_t first = 0;
  box.Measure(state, {3 * n, 2 * kFloatBytes * n}, [&](kernels::Ops& ops) {
    std::iota(positions.begin(), positions.end(), first++);  // new angles in every call
    ops.Rope(args, positions, kHeadDim, x.view());
  });
  return OkStatus();
}

Status RunEmbed(BenchBox& box, benchmark::State& state, DType dtype, int64_t n_tokens) {
  constexpr int64_t kVocab = 32'000;
  TC_ASSIGN_OR_RETURN(WeightRing* const ring, box.Ring(dtype, kVocab, kBenchEmbd));
  FloatMatrix y(n_tokens, kBenchEmbd, 1);
  std::vector<int32_t> ids(static_cast<size_t>(n_tokens));
  uint64_t drawn = 0;
  box.Measure(state, {}, [&](kernels::Ops& ops) {
    for (int32_t& id : ids) id = static_cast<int32_t>(UniformAt(3, drawn++) * kVocab);
    ops.Embed(ring->Next(), ids, y.view());
  });
  return OkStatus();
}

// relu^2 of one token's neurons and the list of those that are not 0.
Status RunActivate(BenchBox& box, benchmark::State& state) {
  FloatMatrix x(1, kBenchFf, 1), y(1, kBenchFf, 2);
  const auto n = static_cast<double>(kBenchFf);
  box.Measure(state, {2 * n, 2 * kFloatBytes * n}, [&](kernels::Ops& ops) {
    ops.Activate(kernels::Activation::kReluSquared, x.view(), TensorView{}, y.view());
  });
  return OkStatus();
}

Status RunSelectActive(BenchBox& box, benchmark::State& state) {
  FloatMatrix a(1, kBenchFf, 1);
  for (float& value : a.values()) value = value > 0.8f ? value : 0;  // a tenth is left
  RandomIds active(kBenchFf, 0, 1);
  box.Measure(state, {0, kFloatBytes * static_cast<double>(kBenchFf)},
              [&](kernels::Ops& ops) { ops.SelectActive(a.view(), active.Next()); });
  return OkStatus();
}

}  // namespace

void RegisterSmallOps(BenchBox* box) {
  for (const int64_t n_tokens : {1, 64}) {
    box->Register(Str("RmsNorm/tokens:", n_tokens), [=](BenchBox& b, benchmark::State& state) {
      return RunRmsNorm(b, state, n_tokens);
    });
    box->Register(Str("Rope/tokens:", n_tokens), [=](BenchBox& b, benchmark::State& state) {
      return RunRope(b, state, n_tokens);
    });
  }
  for (const DType dtype : kBenchDTypes) {
    constexpr int64_t kTokens = 64;
    box->Register(
        Str("Embed/", DTypeName(dtype), "/tokens:", kTokens),
        [=](BenchBox& b, benchmark::State& state) { return RunEmbed(b, state, dtype, kTokens); });
  }
  box->Register("Activate/relu2", RunActivate);
  box->Register("SelectActive", RunSelectActive);
}

}  // namespace thermocline::tools
