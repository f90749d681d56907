// With how much memory a model would fit, for those whom it does not.
#pragma once

#include <cstddef>
#include <cstdint>

#include "placement/model_bytes.h"
#include "placement/overhead.h"

namespace thermocline::placement {

// The least memory, in MiB, that lets `n_workers` (1 or more) with that much each hold the model:
// whole layers, one stage each, and kv_layer_bytes of KV for each layer. Less may do where they
// share the neurons of layers.
uint64_t EnoughMebibytes(const ModelBytes& model, const OverheadModel& overhead,
                         uint64_t kv_layer_bytes, size_t n_workers);

}  // namespace thermocline::placement
