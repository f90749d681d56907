#include "base/check.h"
#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {

void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) {
  for (size_t t = 0; t < ids.size(); ++t) {
    DCHECK(ids[t] >= 0 && ids[t] < table.n_rows);
    DequantizeRow(table, ids[t], y.f32_row(static_cast<int64_t>(t)));
  }
}

}  // namespace thermocline::kernels::reference
