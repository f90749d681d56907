// The CPU operators as functions. Contracts, shapes and sources are those of kernels/ops.h; the
// instruction set is chosen inside each. Products are the same on every set with fused multiply-add
// (kernels/cpu/sum-inl.h); exponentials may differ between sets in the last bits.
#pragma once

#include <string>

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace thermocline::kernels::cpu {

void Embed(CpuContext& context, TensorView table, std::span<const int32_t> ids, TensorView y);
void RmsNorm(CpuContext& context, TensorView x, TensorView weight, float eps, TensorView y);
void LayerNorm(CpuContext& context, TensorView x, TensorView weight, TensorView bias, float eps,
               TensorView y);
void MatMul(CpuContext& context, TensorView w, TensorView x, TensorView bias, TensorView y);
void Rope(CpuContext& context, const RopeArgs& args, std::span<const int64_t> positions,
          int head_dim, TensorView x);
void StoreKv(CpuContext& context, TensorView k, TensorView v,
             std::span<const SequenceRows> sequences, const KvPages& pages);
void Attention(CpuContext& context, TensorView q, std::span<const SequenceRows> sequences,
               const KvPages& pages, float scale, TensorView y);
void Add(CpuContext& context, TensorView a, TensorView b, TensorView y);
void Copy(CpuContext& context, TensorView x, TensorView y);
void Activate(CpuContext& context, Activation kind, TensorView gate, TensorView up, TensorView y);
// act(x) with the bits that Activate gives an element.
float ActivateOne(Activation kind, float x);
void SelectActive(CpuContext& context, TensorView a, ActiveIds active);
void SelectAtLeast(CpuContext& context, TensorView scores, float threshold, ActiveIds active);
void ZeroBelow(CpuContext& context, TensorView a, float threshold);
// Returns for how many neurons the row of up was read: those whose gate is not 0 for some token.
int64_t Neurons(CpuContext& context, const NeuronWeights& weights, Activation kind, TensorView x,
                ActiveIds active, const NeuronNeeds& needs, TensorView a);
// The listed neurons whose activation is not 0 for some token: the others add nothing, so their
// rows are not wanted. A predictor lists some of those. In the context's memory, until the next
// call.
ActiveIds WithoutZeros(CpuContext& context, TensorView a, ActiveIds active);
// Where sums of rows go: with the bias, if there is one, to y, or to `sums` as they are.
struct AxpyOutput {
  TensorView bias, y;
  SumsView sums;
};
// AxpyRows for packed rows; the same sums as for the file's.
void AxpyLanes(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
               const AxpyOutput& output);
void AxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
              const AxpyOutput& output);
void AddSums(CpuContext& context, SumsView sums, SumsView part);
void RoundSums(CpuContext& context, SumsView sums, SumsView part, TensorView bias, TensorView y);

// The instruction set that the ops use on this machine: "avx512", "avx2", "neon".
std::string InstructionSetName();

}  // namespace thermocline::kernels::cpu
