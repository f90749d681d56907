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

#include "base/tensor_view.h"
#include "kernels/operands.h"
#include "kernels/traffic.h"

namespace thermocline::kernels {

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

  // y = x. Either may be columns of a wider matrix.
  virtual void Copy(TensorView x, TensorView y) = 0;

  // y = act(gate) * up, or act(gate) when `up` is empty. y may be gate or up.
  virtual void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) = 0;

  // Collects the columns of a[n_tokens, n_ff] that are not 0 in at least one row.
  virtual void SelectActive(TensorView a, ActiveIds active) = 0;

  // Collects the columns whose score reaches `threshold` in at least one row of
  // scores[n_tokens, n_ff]: what a predictor expects to be active.
  virtual void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) = 0;

  // a = 0 where |a| < threshold, in place (thresholded mode).
  virtual void ZeroBelow(TensorView a, float threshold) = 0;

  // The neurons of `active`, for the tokens that need them: a[t, i] = act(gate_i . x[t]) *
  // (up_i . x[t]), or act(up_i . x[t]) without a gate; 0 for the other tokens. Each row is read
  // once. Columns of a[n_tokens, n_ff] that are not active keep what they held. `a` may be
  // needs.activations.
  virtual void Neurons(const NeuronWeights& weights, Activation kind, TensorView x,
                       ActiveIds active, const NeuronNeeds& needs, TensorView a) = 0;

  // y[t] = sum over active i of a[t, i] * w[i], plus bias. w[n_ff, n_embd] holds one row per
  // neuron, which is read once for all tokens whose a[t, i] is not 0. With every neuron active this
  // is the dense down projection, bit for bit. Added in F32, ascending, within each chunk of
  // kSumChunk neurons; of the chunks in F64; with the bias the sum is rounded, once.
  virtual void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                        TensorView y) = 0;

  // The same before the bias and the rounding: what one member of several has of that sum.
  virtual void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) = 0;

  // sums += part, both [n_tokens, n_embd].
  virtual void AddSums(SumsView sums, SumsView part) = 0;

  // y = sums + part + bias, rounded once; part and bias may be empty. With the sums of all members
  // it is AxpyRows over all their neurons, bit for bit but for what SumsView says.
  virtual void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) = 0;

  // The k best of each row of logits[n_rows, n_vocab], best first: the larger logit, then the lower
  // column; NaN counts as -inf, +inf as the largest float. best[n_rows, 2 * k] F32 has of each its
  // logit and, as the bits of an int32, its column. k is at most kMaxBest and n_vocab.
  virtual void SelectBest(TensorView logits, int k, TensorView best) = 0;

  // What the ops have read so far.
  const Traffic& traffic() const { return traffic_.sums(); }

 protected:
  TrafficCounter traffic_;
};

}  // namespace thermocline::kernels
