#include "worker/host_rows.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace thermocline::worker {

Result<HostRows> HostRows::Create(kernels::Device& device, const HostRowsShape& shape) {
  HostRows rows;
  rows.shape_ = shape;
  rows.place_cols_ = std::max(2 * shape.n_embd, (shape.most_cols + 1) / 2 * 2);
  const int n_uses = shape.n_members > 1 ? 2 + shape.n_members : 1;
  const auto n_elems = static_cast<uint64_t>(rows.place_cols_ * shape.max_rows * n_uses);
  TC_ASSIGN_OR_RETURN(rows.memory_, device.AllocateHost(sizeof(float) * n_elems));
  return rows;
}

// Every place has room for sums, which are F64.
TensorView HostRows::At(const BatchRun& run, int use, int64_t n_cols) const {
  DCHECK(use == 0 || use < 2 + shape_.n_members);
  DCHECK(n_cols <= place_cols_);
  const int64_t row = static_cast<int64_t>(use) * shape_.max_rows + run.first_row;
  auto* const at = reinterpret_cast<float*>(memory_.data()) + row * place_cols_;
  return TensorView::F32(at, run.n_rows, n_cols);
}

void CopyToDevice(TensorView host, TensorView device, kernels::Device& on) {
  DCHECK(host.bytes() == device.bytes());
  on.CopyToDevice(host.data, device.data, host.bytes());
}

void CopyToHost(TensorView device, TensorView host, kernels::Device& on) {
  DCHECK(host.bytes() == device.bytes());
  on.CopyToHost(device.data, host.data, host.bytes());
}

void CopyRows(TensorView from, TensorView to) {
  const auto n_bytes = RowBytes(from.dtype, static_cast<uint64_t>(from.n_cols));
  for (int64_t i = 0; i < from.n_rows; ++i) std::memcpy(to.row(i), from.row(i), n_bytes);
}

}  // namespace thermocline::worker
