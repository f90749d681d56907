#include "tools/machine/prepared_weight.h"

#include "kernels/lanes.h"

namespace thermocline::tools {

Result<PreparedWeight> PrepareWeight(kernels::Device& device, TensorView w) {
  PreparedWeight prepared;
  TC_ASSIGN_OR_RETURN(prepared.buffer, device.Allocate(w.bytes() + kernels::kLanesSlackBytes));
  prepared.view = TensorView::Dense(prepared.buffer.data(), w.dtype, w.n_rows, w.n_cols);
  prepared.view.layout = device.PreferredLayout(w.dtype);
  device.Pack(w, prepared.view);
  return prepared;
}

}  // namespace thermocline::tools
