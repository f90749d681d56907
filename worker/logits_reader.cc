#include "worker/logits_reader.h"

#include <algorithm>

#include "base/check.h"
#include "worker/host_rows.h"

namespace thermocline::worker {
namespace {

uint64_t FloatBytes(int64_t n_rows, int64_t n_cols) {
  return sizeof(float) * static_cast<uint64_t>(n_rows * n_cols);
}

}  // namespace

Result<LogitsReader> LogitsReader::Create(kernels::Device& device, int64_t n_vocab, int max_rows) {
  LogitsReader reader;
  reader.device_ = &device;
  const uint64_t best_bytes = FloatBytes(max_rows, 2 * kernels::kMaxBest);
  TC_ASSIGN_OR_RETURN(reader.best_, device.Allocate(best_bytes));
  if (device.reads_host_memory()) return reader;
  const uint64_t host_bytes = std::max(FloatBytes(max_rows, n_vocab), best_bytes);
  TC_ASSIGN_OR_RETURN(reader.host_, device.AllocateHost(host_bytes));
  return reader;
}

TensorView LogitsReader::Best(int64_t n_rows, int k) const {
  DCHECK(0 < k && k <= kernels::kMaxBest);
  return TensorView::F32(reinterpret_cast<float*>(best_.data()), n_rows, 2 * int64_t{k});
}

Result<TensorView> LogitsReader::Fetch(TensorView there) {
  if (device_->reads_host_memory()) return there;
  const TensorView host =
      TensorView::F32(reinterpret_cast<float*>(host_.data()), there.n_rows, there.n_cols);
  CopyToHost(there, host, *device_);
  TC_RETURN_IF_ERROR(device_->Synchronize());
  return host;
}

}  // namespace thermocline::worker
