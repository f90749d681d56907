// The parser behind GgufFile::Parse.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/gguf.h"
#include "model/gguf_cursor.h"

namespace thermocline::model {

// Upper bounds that a header must respect before anything is sized by it.
inline constexpr uint64_t kMaxMetadataKeys = 1 << 16;  // published files have about 60
inline constexpr uint64_t kMaxTensors = 1 << 20;       // 1024 layers of 1024 tensors
inline constexpr uint64_t kMaxKeyBytes = 65535;        // the format's own bound
inline constexpr uint64_t kMaxTensorNameBytes = 63;    // upstream's 64 with its terminator
inline constexpr uint32_t kMaxDims = 4;                // the format's own bound
// Longest array: four merges for each token of the largest vocabulary (kMaxVocab).
inline constexpr uint64_t kMaxArrayElems = uint64_t{1} << 24;
inline constexpr uint64_t kDefaultAlignment = 32;  // the format's default
inline constexpr uint64_t kMinAlignment = 8;       // the format wants a multiple of 8
inline constexpr uint64_t kMaxAlignment = 65536;   // the largest page size in common use

// Parses one header; lives on the stack of one call. Memory is taken in proportion to bytes already
// read, so a length that lies costs nothing. Thread-compatible.
class GgufParser {
 public:
  GgufParser(const RangeReader& reader, GgufParts parts)
      : cursor_(reader), file_bytes_(reader.size_bytes()), parts_(parts) {}
  // The codes of GgufFile::Parse.
  Result<GgufFile> Run();

 private:
  Status ParseMagic();
  Status ParseCounts();
  Status ParseCount(std::string_view what, uint64_t min_elem_bytes, uint64_t max, uint64_t* count);
  Status ParseKeyValue();
  Status ParseAlignment();
  Status CheckNoSplit() const;
  Status ParseTensorInfo();
  Status ParseShape(TensorInfo* tensor);
  Status ParseDType(TensorInfo* tensor);
  Status ParseOffset(TensorInfo* tensor);
  Status PlaceTensors();
  Status CheckOverlap() const;

  GgufCursor cursor_;
  const uint64_t file_bytes_;
  const GgufParts parts_;
  uint64_t n_tensors_ = 0;
  uint64_t n_keys_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  GgufFile out_;
};

}  // namespace thermocline::model
