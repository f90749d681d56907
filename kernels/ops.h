// The operators of a transformer step on one device: one pure virtual per op.
//
// Views are trusted: the program builder has checked shapes, so an op only DCHECKs. Activations are
// F32; weights may be any DType; accumulation is F32 or wider. Each (token, output) result is
// computed in an order that does not depend on how many tokens share the call or on the number of
// threads, so batching and threading never change a bit of a result. Inputs may not alias outputs
// unless an op says so. Engine or step thread only: an Ops object is thread-compatible.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "base/tensor_view.h"

namespace thermocline::kernels {

enum class RopePairing : uint8_t { kAdjacent, kHalves };
enum class Activation : uint8_t { kSilu, kRelu, kReluSquared };

struct RopeArgs {
  RopePairing pairing = RopePairing::kAdjacent;
  int n_rot = 0;  // rotated elements at the start of each head, even
  float freq_base = 10000.0f;
  float freq_scale = 1.0f;               // positions are multiplied by it
  std::span<const float> freq_divisors;  // [n_rot/2] or empty: each angle is divided by it
};

// The KV pages of one layer. A page holds `page_tokens` consecutive positions of one sequence:
// k[page][head_kv][token][head_dim], the same for v. dtype is F32 or F16.
struct KvPages {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  DType dtype = DType::kF32;
  int page_tokens = 0;
  int n_head_kv = 0;
  int head_dim = 0;
  uint64_t page_bytes() const {
    return RowBytes(dtype, static_cast<uint64_t>(page_tokens) * n_head_kv * head_dim);
  }
  // Bytes from `k` (or `v`) to the head_dim values of one head at `position` of a sequence; those
  // of the next position in the same page follow at once.
  uint64_t offset_bytes(std::span<const int32_t> page_ids, int64_t position, int head) const {
    const auto page = static_cast<uint64_t>(page_ids[static_cast<size_t>(position / page_tokens)]);
    const uint64_t slot = static_cast<uint64_t>(head) * page_tokens + position % page_tokens;
    return page * page_bytes() + RowBytes(dtype, slot * head_dim);
  }
};

// One sequence's share of a batch: rows [first_row, first_row + n_tokens) of x hold its positions
// [first_position, first_position + n_tokens).
struct SequenceRows {
  int first_row = 0;
  int n_tokens = 0;
  int64_t first_position = 0;
  std::span<const int32_t> page_ids;  // covers positions 0 .. first_position + n_tokens - 1
};

// The neurons an FFN computes: ids[0 .. *n_active), ascending and distinct; `ids` null means every
// neuron. SelectActive writes a list, so it takes one with room for n_ff ids.
struct ActiveIds {
  int32_t* ids = nullptr;
  int32_t* n_active = nullptr;
  int32_t capacity = 0;

  // Every neuron: the dense FFN.
  static constexpr ActiveIds All() { return {}; }
  bool all() const { return ids == nullptr; }
  int64_t count(int64_t n_ff) const { return all() ? n_ff : *n_active; }
  int64_t id(int64_t i) const { return all() ? i : ids[i]; }
};

class Ops {
 public:
  virtual ~Ops() = default;

  // y[t] = table[ids[t]], dequantised. table[n_vocab, n_embd], y[n_tokens, n_embd].
  virtual void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) = 0;

  // y = x / sqrt(mean(x^2) + eps) * weight, per row (Zhang & Sennrich 2019, eq. 4). y may be x.
  virtual void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) = 0;

  // y = (x - mean) / sqrt(var + eps) * weight + bias, per row (Ba et al. 2016, eq. 4). y may be x;
  // bias may be empty.
  virtual void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                         TensorView y) = 0;

  // y = x w^T + bias. w[n_out, n_in], x[n_tokens, n_in], y[n_tokens, n_out]; bias[1, n_out] F32 or
  // empty.
  virtual void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) = 0;

  // Rotates every head of x[n_tokens, n_heads * head_dim] in place: pair i of a head at position p
  // turns by p * freq_scale * freq_base^(-2i/n_rot) / freq_divisors[i] (Su et al. 2021,
  // sec. 3.4.2).
  virtual void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
                    TensorView x) = 0;

  // Writes rows k, v [n_tokens, n_head_kv * head_dim] to the pages of their sequences, rounding to
  // the pages' dtype.
  virtual void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
                       const KvPages& pages) = 0;

  // Causal attention of q[n_tokens, n_head * head_dim] over the stored pages, query head h reading
  // KV head h / (n_head / n_head_kv): softmax(scale q k^T) v (Vaswani et al. 2017, eq. 1).
  virtual void Attention(TensorView q, std::span<const SequenceRows> sequences,
                         const KvPages& pages, float scale, TensorView y) = 0;

  // y = a + b. y may be a or b.
  virtual void Add(TensorView a, TensorView b, TensorView y) = 0;

  // y = act(gate) * up, or act(gate) when `up` is empty. y may be gate or up.
  virtual void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) = 0;

  // Collects the columns of a[n_tokens, n_ff] that are not 0 in at least one row.
  virtual void SelectActive(TensorView a, ActiveIds active) = 0;

  // y[t, i] = x[t] . w[i] + bias[i] for the active i; other columns of y become 0.
  virtual void MatMulRows(TensorView w, TensorView x, TensorView bias, ActiveIds active,
                          TensorView y) = 0;

  // y[t] = sum over active i, ascending, of a[t, i] * w[i], plus bias. w[n_ff, n_embd] holds one
  // row per neuron. With every neuron active this is the dense down projection, bit for bit.
  virtual void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                        TensorView y) = 0;
};

}  // namespace thermocline::kernels
