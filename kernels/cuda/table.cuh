// The table of the launchers that this compiler made; included once per compiler.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

void Embed(void* stream, const TensorView& table, const int32_t* ids, const TensorView& y);
void RmsNorm(void* stream, const TensorView& x, const TensorView& weight, float eps,
             const TensorView& y);
void LayerNorm(void* stream, const TensorView& x, const TensorView& weight, const TensorView& bias,
               float eps, const TensorView& y);
void Rope(void* stream, const RopeJob& job);
void StoreKv(void* stream, const StoreKvJob& job);
void Attention(void* stream, const AttentionJob& job);
void Add(void* stream, const TensorView& a, const TensorView& b, const TensorView& y);
void Copy(void* stream, const TensorView& x, const TensorView& y);
void Activate(void* stream, Activation kind, const TensorView& gate, const TensorView& up,
              const TensorView& y);
void ZeroBelow(void* stream, const TensorView& a, float threshold);
void Select(void* stream, const SelectJob& job);
void SelectBest(void* stream, const BestJob& job);
void RoundRows(void* stream, const TensorView& x, const ByteRows& rows);
void RowDots(void* stream, const RowDotsJob& job);
void AxpyRows(void* stream, const AxpyJob& job);
void AddSums(void* stream, const SumsView& sums, const SumsView& part);
void RoundSums(void* stream, const SumsView& sums, const SumsView& part, const TensorView& bias,
               const TensorView& y);

const KernelTable& Kernels() {
  static constexpr KernelTable kTable = {
      .embed = Embed,
      .rms_norm = RmsNorm,
      .layer_norm = LayerNorm,
      .rope = Rope,
      .store_kv = StoreKv,
      .attention = Attention,
      .add = Add,
      .copy = Copy,
      .activate = Activate,
      .zero_below = ZeroBelow,
      .select = Select,
      .select_best = SelectBest,
      .round_rows = RoundRows,
      .row_dots = RowDots,
      .axpy_rows = AxpyRows,
      .add_sums = AddSums,
      .round_sums = RoundSums,
  };
  return kTable;
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
