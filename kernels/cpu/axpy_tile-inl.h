// Adding a block of decoded neuron rows to the sums of many tokens, for the instruction set being
// compiled. Each sum is one chain in the order of the neurons; leaving out a factor of 0 changes no
// bit of it but the sign of a zero, so a token's own zeros are skipped where that pays.
#if defined(TC_KERNELS_CPU_AXPY_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TC_KERNELS_CPU_AXPY_TILE_INL_H_
#undef TC_KERNELS_CPU_AXPY_TILE_INL_H_
#else
#define TC_KERNELS_CPU_AXPY_TILE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using TileF = hn::CappedTag<float, 16>;
using TileVF = hn::Vec<TileF>;
constexpr int kTileLanes = static_cast<int>(hn::MaxLanes(TileF()));

// Decoded rows of a block of neurons and the factors of some tokens.
template <int64_t kCols, int64_t kNeurons>
struct AxpyTile {
  static constexpr int kWide = 4;
  static constexpr int64_t kStep = kWide * kTileLanes;

  // sums[n][kCols] += factors[n][kNeurons] x w[n_neurons][kCols].
  template <int n>
  static HWY_INLINE void Dense(const float* w, int64_t n_neurons, const float* factors,
                               float* sums) {
    for (int64_t c = 0; c < kCols; c += kStep) {
      TileVF tile[n][kWide];
      for (int t = 0; t < n; ++t) {
        for (int v = 0; v < kWide; ++v) {
          tile[t][v] = hn::LoadU(TileF(), sums + t * kCols + c + v * kTileLanes);
        }
      }
      for (int64_t i = 0; i < n_neurons; ++i) {
        TileVF w_vec[kWide];
        for (int v = 0; v < kWide; ++v) {
          w_vec[v] = hn::LoadU(TileF(), w + i * kCols + c + v * kTileLanes);
        }
        for (int t = 0; t < n; ++t) {
          const TileVF factor = hn::Set(TileF(), factors[t * kNeurons + i]);
          for (int v = 0; v < kWide; ++v) tile[t][v] = hn::MulAdd(w_vec[v], factor, tile[t][v]);
        }
      }
      for (int t = 0; t < n; ++t) {
        for (int v = 0; v < kWide; ++v) {
          hn::StoreU(tile[t][v], TileF(), sums + t * kCols + c + v * kTileLanes);
        }
      }
    }
  }

  // The same for one token and the n_listed neurons of `list`.
  static HWY_INLINE void Listed(const float* w, const int32_t* list, int64_t n_listed,
                                const float* factors, float* sums) {
    for (int64_t c = 0; c < kCols; c += kStep) {
      TileVF tile[kWide];
      for (int v = 0; v < kWide; ++v) tile[v] = hn::LoadU(TileF(), sums + c + v * kTileLanes);
      for (int64_t l = 0; l < n_listed; ++l) {
        const TileVF factor = hn::Set(TileF(), factors[list[l]]);
        const float* row = w + list[l] * kCols + c;
        for (int v = 0; v < kWide; ++v) {
          tile[v] = hn::MulAdd(hn::LoadU(TileF(), row + v * kTileLanes), factor, tile[v]);
        }
      }
      for (int v = 0; v < kWide; ++v) hn::StoreU(tile[v], TileF(), sums + c + v * kTileLanes);
    }
  }

  // All tokens: pairs of them where many factors are not 0, else one by one.
  static HWY_INLINE void AddTokens(const float* w, int64_t n_neurons, const float* factors,
                                   int64_t n_tokens, float* sums) {
    int64_t t = 0;
    while (t < n_tokens) {
      const float* own = factors + t * kNeurons;
      int32_t list[kNeurons];
      int64_t n_listed = 0;
      for (int32_t i = 0; i < n_neurons; ++i) {
        list[n_listed] = i;
        n_listed += own[i] != 0.0f ? 1 : 0;
      }
      if (2 * n_listed < n_neurons) {
        Listed(w, list, n_listed, own, sums + t * kCols);
        t += 1;
      } else if (t + 2 <= n_tokens) {
        Dense<2>(w, n_neurons, own, sums + t * kCols);
        t += 2;
      } else {
        Dense<1>(w, n_neurons, own, sums + t * kCols);
        t += 1;
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // TC_KERNELS_CPU_AXPY_TILE_INL_H_
