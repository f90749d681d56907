// The name of a model by its content.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "model/gguf.h"
#include "model/range_reader.h"

namespace thermocline::model {

// 32 hexadecimal digits from the header, the size of the file and samples of every tensor's data:
// its beginning, middle and end. Training moves every tensor it touches nearly everywhere, so two
// files with equal fingerprints are the same model. Reads the header and, of the data, at most
// 1/64 and 16 MiB, by Read and not through the mapping. Errors as RangeReader::Read.
Result<std::string> FingerprintOf(const RangeReader& reader, const GgufFile& file);

}  // namespace thermocline::model
