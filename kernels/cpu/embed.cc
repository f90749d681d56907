#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embed.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// DecodeRun writes whole groups; the last, partial one goes through the scalar decoder.
template <typename D>
HWY_NOINLINE void DecodeRow(const std::byte* row, int64_t n, float* out) {
  const int64_t n_whole = n / D::kBlockElems * D::kBlockElems;
  DecodeRun<D>(reinterpret_cast<const uint8_t*>(row), n_whole, out);
  DequantizeRow(D::kDType, row + RowBytes(D::kDType, static_cast<uint64_t>(n_whole)), n - n_whole,
                out + n_whole);
}

}  // namespace

void Embed(CpuContext& context, TensorView table, std::span<const int32_t> ids, TensorView y) {
  ForParts(context, y.n_rows, 1, MinItems(y.n_cols), [&](int64_t begin, int64_t end, int) {
    WithDType(table.dtype, [&](auto decoder) {
      for (int64_t t = begin; t < end; ++t) {
        DecodeRow<decltype(decoder)>(table.row(ids[static_cast<size_t>(t)]), y.n_cols,
                                     y.f32_row(t));
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(Embed);

void Embed(CpuContext& context, TensorView table, std::span<const int32_t> ids, TensorView y) {
  DCHECK(table.n_cols == y.n_cols && static_cast<int64_t>(ids.size()) == y.n_rows);
  if (table.layout == RowLayout::kLanes) {
    ForParts(context, y.n_rows, 1, MinItems(y.n_cols), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        DequantizeRow(table, ids[static_cast<size_t>(t)], y.f32_row(t));
      }
    });
    return;
  }
  HWY_DYNAMIC_DISPATCH(Embed)(context, table, ids, y);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
