// Reads the header of a model file front to back, field by field, never past the end of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/range_reader.h"

namespace thermocline::model {

// Longest header that is read. Published files with the largest vocabularies have about 12 MiB, and
// those that embed a whole tokenizer.json about 40 MiB.
inline constexpr uint64_t kMaxHeaderBytes = uint64_t{512} << 20;
// Longest string: an embedded tokenizer.json has about 20 MiB.
inline constexpr uint64_t kMaxStringBytes = uint64_t{64} << 20;

// Borrows the reader; owned by the parser on its stack. Little-endian hosts only, as the whole
// project. Thread-compatible.
class GgufCursor {
 public:
  explicit GgufCursor(const RangeReader& reader, uint64_t max_header_bytes = kMaxHeaderBytes)
      : reader_(reader), mapping_(reader.Mapping()), max_header_bytes_(max_header_bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return reader_.size_bytes() - position_; }

  // kDataLoss when the file ends inside the field; kInvalidArgument beyond the longest
  // header.
  template <typename T>
  Status Read(T* out) {
    return ReadBytes(out, sizeof *out);
  }
  // A u64 length and that many bytes, at least `min_bytes` and at most `max_bytes`. The codes of
  // Read; kInvalidArgument when the length is not within the bounds.
  Status ReadString(uint64_t min_bytes, uint64_t max_bytes, std::string* out);

 private:
  Status Need(uint64_t n_bytes) const;
  Status ReadBytes(void* out, uint64_t n_bytes);
  // Makes window_ hold the byte at position_, for readers that cannot map.
  Status FillWindow();

  const RangeReader& reader_;
  std::span<const std::byte> mapping_;
  const uint64_t max_header_bytes_;
  uint64_t position_ = 0;
  std::vector<std::byte> window_;
  uint64_t window_begin_ = 0;
};

}  // namespace thermocline::model
