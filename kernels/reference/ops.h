// The reference operators as functions: scalar loops, double accumulators, one rounding to F32 at
// the end. Contracts, shapes and sources are those of kernels/ops.h.
#pragma once

#include "kernels/ops.h"

namespace thermocline::kernels::reference {

// act(x) in double.
double Activated(Activation kind, double x);

void Embed(TensorView table, std::span<const int32_t> ids, TensorView y);
void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y);
void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps, TensorView y);
void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y);
void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim, TensorView x);
void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
             const KvPages& pages);
void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
               float scale, TensorView y);
void Add(TensorView a, TensorView b, TensorView y);
void Copy(TensorView x, TensorView y);
void Activate(Activation kind, TensorView gate, TensorView up, TensorView y);
void SelectActive(TensorView a, ActiveIds active);
void SelectAtLeast(TensorView scores, float threshold, ActiveIds active);
void SelectBest(TensorView logits, int k, TensorView best);
void ZeroBelow(TensorView a, float threshold);
void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
             const NeuronNeeds& needs, TensorView a);
void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias, TensorView y);
void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums);
void AddSums(SumsView sums, SumsView part);
void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y);

}  // namespace thermocline::kernels::reference
