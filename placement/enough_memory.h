// With how much memory a model would fit, for those whom it does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "placement/model_bytes.h"
#include "placement/overhead.h"

namespace thermocline::placement {

// The least memory, in MiB, with which `n_workers` (1 or more) that have that much each hold the
// model: whole layers, one stage each, kv_layer_bytes of KV for each layer, and `fits` of so many
// bytes, which is asked where they could and may need more or, of `rows`, in which some of them
// hold their neurons, less. Less may do where they share the neurons of layers, or have cards.
enum class SomeRows : uint8_t { kAsIs, kIn8Bits };
uint64_t EnoughMebibytes(const ModelBytes& model, const OverheadModel& overhead,
                         uint64_t kv_layer_bytes, size_t n_workers, SomeRows rows,
                         const std::function<bool(uint64_t memory_bytes)>& fits);

}  // namespace thermocline::placement
