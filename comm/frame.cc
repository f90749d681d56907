#include "comm/frame.h"

#include <bit>
#include <cstring>

#include "base/str.h"

namespace thermocline::comm {
namespace {

// The prefix as it lies on the wire.
struct Prefix {
  uint32_t magic;
  uint32_t header_bytes;
  uint64_t payload_bytes;
};
static_assert(sizeof(Prefix) == kFramePrefixBytes);
static_assert(std::endian::native == std::endian::little, "the prefix is copied, not converted");

void CopyBytes(std::span<const std::byte> from, std::byte* to) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

Status CheckPrefix(const Prefix& prefix, size_t message_bytes) {
  if (prefix.magic != kFrameMagic) {
    return DataLoss(Str("frame has a wrong magic:", Kv("magic", prefix.magic)));
  }
  if (prefix.header_bytes > kMaxHeaderBytes) {
    return DataLoss(Str("frame header over its limit:", Kv("header_bytes", prefix.header_bytes),
                        Kv("limit", kMaxHeaderBytes)));
  }
  if (prefix.payload_bytes > kMaxPayloadBytes) {
    return DataLoss(Str("frame payload over its limit:", Kv("payload_bytes", prefix.payload_bytes),
                        Kv("limit", kMaxPayloadBytes)));
  }
  // Both lengths are below their limits, so the sum cannot wrap.
  const uint64_t expected = kFramePrefixBytes + prefix.header_bytes + prefix.payload_bytes;
  if (expected != message_bytes) {
    return DataLoss(
        Str(expected > message_bytes ? "frame is cut short:" : "frame has bytes left over:",
            Kv("bytes", message_bytes), Kv("expected", expected)));
  }
  return OkStatus();
}

}  // namespace

Status CheckFrameLimits(const FrameView& frame) {
  if (frame.header.size() > kMaxHeaderBytes) {
    return InvalidArgument(
        Str("frame header over its limit:", Kv("header_bytes", frame.header.size()),
            Kv("limit", kMaxHeaderBytes)));
  }
  if (frame.payload.size() > kMaxPayloadBytes) {
    return InvalidArgument(
        Str("frame payload over its limit:", Kv("payload_bytes", frame.payload.size()),
            Kv("limit", kMaxPayloadBytes)));
  }
  return OkStatus();
}

void EncodeFrameTo(const FrameView& frame, std::byte* out) {
  const Prefix prefix{kFrameMagic, static_cast<uint32_t>(frame.header.size()),
                      frame.payload.size()};
  std::memcpy(out, &prefix, sizeof(prefix));
  CopyBytes(frame.header, out + kFramePrefixBytes);
  CopyBytes(frame.payload, out + kFramePrefixBytes + frame.header.size());
}

void EncodeFrame(const FrameView& frame, std::vector<std::byte>* out) {
  out->resize(EncodedFrameBytes(frame));
  EncodeFrameTo(frame, out->data());
}

Status DecodeFrame(std::span<const std::byte> bytes, Frame* frame) {
  if (bytes.size() < kFramePrefixBytes) {
    return DataLoss(
        Str("frame is cut short:", Kv("bytes", bytes.size()), Kv("expected", kFramePrefixBytes)));
  }
  Prefix prefix;
  std::memcpy(&prefix, bytes.data(), sizeof(prefix));
  TC_RETURN_IF_ERROR(CheckPrefix(prefix, bytes.size()));
  const auto header = bytes.subspan(kFramePrefixBytes, prefix.header_bytes);
  const auto payload = bytes.subspan(kFramePrefixBytes + prefix.header_bytes);
  frame->header.assign(header.begin(), header.end());
  frame->payload.assign(payload.begin(), payload.end());
  return OkStatus();
}

}  // namespace thermocline::comm
