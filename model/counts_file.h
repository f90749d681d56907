// Activation counts as other programs store them: PowerInfer's `activation_<layer>.pt`, which is
// PyTorch's zip format with one tensor in it, and NumPy's .npy.
//
// Sources: PKWARE APPNOTE 6.3.10 (zip: local headers, central directory, end record); Python's
// Lib/pickletools.py (opcodes of protocol 2); torch/csrc/jit/serialization and torch/_utils.py
// (`_rebuild_tensor_v2` over a persistent id ('storage', type, key, device, elements)); NumPy's
// "Format Specification" (NEP 1) for .npy. Nothing in a file is ever executed: the pickle reader
// knows the few opcodes that a tensor takes and refuses the rest by name.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/range_reader.h"

namespace thermocline::model {

// The numbers of a one-dimensional tensor of int64, int32, float32 or float64, rounded to whole
// counts. kInvalidArgument: another kind of file, another shape or type, compressed, a negative or
// infinite count; kDataLoss: cut off, or contradicting itself. Errors name the file.
Result<std::vector<uint64_t>> ReadCounts(const RangeReader& reader);

}  // namespace thermocline::model
