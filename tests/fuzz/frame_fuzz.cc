// Frames from a wire: a decoded one encodes to the same bytes.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "comm/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  using namespace thermocline::comm;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), n_bytes);
  const auto missing = MissingPayloadBytes(bytes);
  if (missing.ok() && *missing > 0) CHECK(*missing <= kMaxPayloadBytes);
  Frame frame;
  if (!DecodeFrame(bytes, &frame).ok()) return 0;
  std::vector<std::byte> again;
  EncodeFrame({frame.header, frame.payload}, &again);
  CHECK(std::ranges::equal(bytes, again));
  return 0;
}
