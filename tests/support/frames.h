// Frames with known content, and deadlines, for tests of comm/.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "comm/frame.h"

namespace thermocline::testing {

inline TimePoint Now() { return SteadyClock().Now(); }
inline TimePoint In(Duration d) { return Now() + d; }

// The number as header, and a payload of bytes that follow from it.
inline comm::Frame MakeFrame(uint64_t number, size_t payload_bytes) {
  comm::Frame frame;
  const auto* bytes = reinterpret_cast<const std::byte*>(&number);
  frame.header.assign(bytes, bytes + sizeof(number));
  frame.payload.resize(payload_bytes);
  for (size_t i = 0; i < payload_bytes; ++i) {
    frame.payload[i] = static_cast<std::byte>((number * 31 + i) % 251);
  }
  return frame;
}

inline comm::FrameView ViewOf(const comm::Frame& frame) { return {frame.header, frame.payload}; }

inline bool SameFrame(const comm::Frame& a, const comm::Frame& b) {
  return a.header == b.header && a.payload == b.payload;
}

}  // namespace thermocline::testing
