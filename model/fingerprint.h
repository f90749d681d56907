// The name of a model by its content.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "model/range_reader.h"

namespace thermocline::model {

// 32 hexadecimal digits from the header and the size of a file: two files with equal fingerprints
// have the same tensors at the same places. Weights are not read.
Result<std::string> FingerprintOf(const RangeReader& reader, uint64_t header_bytes);

}  // namespace thermocline::model
