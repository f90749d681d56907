#include "model/gguf_cursor.h"

#include <algorithm>
#include <cstring>

#include "base/str.h"

namespace thermocline::model {
namespace {

// Bytes fetched at a time from a reader that cannot map: few round trips, little waste at the end.
constexpr uint64_t kWindowBytes = uint64_t{64} << 10;

}  // namespace

Status GgufCursor::Need(uint64_t n_bytes) const {
  if (n_bytes > remaining()) {
    return DataLoss(Str("file ends inside the field:", Kv("at", position_), Kv("needs", n_bytes),
                        Kv("left", remaining())));
  }
  if (position_ + n_bytes > max_header_bytes_) {
    return InvalidArgument(Str("header too long:", Kv("at", position_), Kv("needs", n_bytes),
                               Kv("max_header_bytes", max_header_bytes_)));
  }
  return OkStatus();
}

Status GgufCursor::FillWindow() {
  window_begin_ = position_;
  window_.resize(std::min(kWindowBytes, remaining()));
  return reader_.Read(position_, window_);
}

Status GgufCursor::ReadBytes(void* out, uint64_t n_bytes) {
  TC_RETURN_IF_ERROR(Need(n_bytes));
  auto* to = static_cast<std::byte*>(out);
  if (!mapping_.empty()) {
    std::memcpy(to, mapping_.data() + position_, n_bytes);
    position_ += n_bytes;
    return OkStatus();
  }
  while (n_bytes > 0) {
    const uint64_t window_end = window_begin_ + window_.size();
    if (position_ >= window_end) {
      TC_RETURN_IF_ERROR(FillWindow());
      continue;
    }
    const uint64_t n = std::min(n_bytes, window_end - position_);
    std::memcpy(to, window_.data() + (position_ - window_begin_), n);
    to += n;
    position_ += n;
    n_bytes -= n;
  }
  return OkStatus();
}

Status GgufCursor::ReadString(uint64_t min_bytes, uint64_t max_bytes, std::string* out) {
  uint64_t length = 0;
  TC_RETURN_IF_ERROR(Read(&length));
  if (length < min_bytes || length > max_bytes) {
    return InvalidArgument(Str("string length out of bounds:", Kv("length", length),
                               Kv("min", min_bytes), Kv("max", max_bytes)));
  }
  TC_RETURN_IF_ERROR(Need(length));
  out->resize(length);
  return length == 0 ? OkStatus() : ReadBytes(out->data(), length);
}

}  // namespace thermocline::model
