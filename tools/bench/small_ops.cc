// The ops between the products: they read activations, which lie in the caches.
#include <numeric>
#include <span>
#include <vector>

#include "base/rng.h"
#include "base/str.h"
#include "base/units.h"
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

Status RunLayerNorm(BenchBox& box, benchmark::State& state, int64_t n_tokens) {
  FloatMatrix x(n_tokens, kBenchEmbd, 1), weight(1, kBenchEmbd, 2), bias(1, kBenchEmbd, 3);
  FloatMatrix y(n_tokens, kBenchEmbd, 4);
  const auto n = static_cast<double>(n_tokens * kBenchEmbd);
  box.Measure(state, {7 * n, 2 * kFloatBytes * n}, [&](kernels::Ops& ops) {
    ops.LayerNorm(x.view(), weight.view(), bias.view(), 1e-5f, y.view());
  });
  return OkStatus();
}

Status RunAdd(BenchBox& box, benchmark::State& state, int64_t n_tokens) {
  FloatMatrix a(n_tokens, kBenchEmbd, 1), b(n_tokens, kBenchEmbd, 2), y(n_tokens, kBenchEmbd, 3);
  const auto n = static_cast<double>(n_tokens * kBenchEmbd);
  box.Measure(state, {n, 3 * kFloatBytes * n},
              [&](kernels::Ops& ops) { ops.Add(a.view(), b.view(), y.view()); });
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

struct NamedActivation {
  const char* name;
  kernels::Activation kind;
  bool is_gated;
};
constexpr NamedActivation kActivations[] = {{"relu", kernels::Activation::kRelu, true},
                                            {"relu2", kernels::Activation::kReluSquared, false},
                                            {"silu", kernels::Activation::kSilu, true}};

// One token's neurons.
Status RunActivate(BenchBox& box, benchmark::State& state, const NamedActivation& activation) {
  FloatMatrix x(1, kBenchFf, 1), up(1, kBenchFf, 2), y(1, kBenchFf, 3);
  const auto n = static_cast<double>(kBenchFf);
  const TensorView factors = activation.is_gated ? up.view() : TensorView{};
  const int n_passed = activation.is_gated ? 3 : 2;
  box.Measure(state, {2 * n, n_passed * kFloatBytes * n}, [&](kernels::Ops& ops) {
    ops.Activate(activation.kind, x.view(), factors, y.view());
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

// What a predictor's scores name: a tenth.
Status RunSelectAtLeast(BenchBox& box, benchmark::State& state) {
  FloatMatrix scores(1, kBenchFf, 1);
  RandomIds active(kBenchFf, 0, 1);
  box.Measure(state, {0, kFloatBytes * static_cast<double>(kBenchFf)},
              [&](kernels::Ops& ops) { ops.SelectAtLeast(scores.view(), 0.8f, active.Next()); });
  return OkStatus();
}

// Half of one token's neurons, those that are 0 already from the second call on.
Status RunZeroBelow(BenchBox& box, benchmark::State& state) {
  FloatMatrix a(1, kBenchFf, 1);
  box.Measure(state, {0, 2 * kFloatBytes * static_cast<double>(kBenchFf)},
              [&](kernels::Ops& ops) { ops.ZeroBelow(a.view(), 0.5f); });
  return OkStatus();
}

// Keys and values of a decoded token or of a prompt, into pages of 16 tokens.
Status RunStoreKv(BenchBox& box, benchmark::State& state, DType dtype, int64_t n_tokens) {
  constexpr int kPageTokens = 16, kKvHeads = 8;
  constexpr int64_t kRow = kKvHeads * kHeadDim;
  kernels::KvPages pages{nullptr, nullptr, dtype, kPageTokens, kKvHeads, kHeadDim};
  std::vector<int32_t> ids(DivCeil(static_cast<uint64_t>(n_tokens), uint64_t{kPageTokens}));
  std::iota(ids.begin(), ids.end(), 0);
  const uint64_t half_bytes = pages.page_bytes() * ids.size();
  TC_ASSIGN_OR_RETURN(const Buffer memory, box.device().Allocate(2 * half_bytes));
  pages.k = memory.data();
  pages.v = pages.k + half_bytes;
  FloatMatrix k(n_tokens, kRow, 1), v(n_tokens, kRow, 2);
  const kernels::SequenceRows rows{0, static_cast<int>(n_tokens), 0, ids};
  const auto n = static_cast<double>(2 * n_tokens * kRow);
  const double stored = static_cast<double>(Traits(dtype).block_bytes);
  box.Measure(state, {0, n * (kFloatBytes + stored)}, [&](kernels::Ops& ops) {
    ops.StoreKv(k.view(), v.view(), std::span(&rows, 1), pages);
  });
  return OkStatus();
}

}  // namespace

void RegisterSmallOps(BenchBox* box) {
  for (const int64_t n_tokens : {1, 64}) {
    box->Register(Str("RmsNorm/tokens:", n_tokens), [=](BenchBox& b, benchmark::State& state) {
      return RunRmsNorm(b, state, n_tokens);
    });
    box->Register(Str("LayerNorm/tokens:", n_tokens), [=](BenchBox& b, benchmark::State& state) {
      return RunLayerNorm(b, state, n_tokens);
    });
    box->Register(Str("Add/tokens:", n_tokens),
                  [=](BenchBox& b, benchmark::State& state) { return RunAdd(b, state, n_tokens); });
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      box->Register(Str("StoreKv/", DTypeName(dtype), "/tokens:", n_tokens),
                    [=](BenchBox& b, benchmark::State& state) {
                      return RunStoreKv(b, state, dtype, n_tokens);
                    });
    }
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
  for (const NamedActivation& activation : kActivations) {
    box->Register(Str("Activate/", activation.name), [=](BenchBox& b, benchmark::State& state) {
      return RunActivate(b, state, activation);
    });
  }
  box->Register("SelectActive", RunSelectActive);
  box->Register("SelectAtLeast", RunSelectAtLeast);
  box->Register("ZeroBelow", RunZeroBelow);
}

}  // namespace thermocline::tools
