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

Result<Prefix> ReadPrefix(std::span<const std::byte> bytes) {
  if (bytes.size() < kFramePrefixBytes) {
    return DataLoss(
        Str("frame is cut short:", Kv("bytes", bytes.size()), Kv("expected", kFramePrefixBytes)));
  }
  Prefix prefix;
  std::memcpy(&prefix, bytes.data(), sizeof(prefix));
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
  return prefix;
}

// Both lengths are below their limits, so the sum cannot wrap.
uint64_t HeadBytes(const Prefix& prefix) { return kFramePrefixBytes + prefix.header_bytes; }
uint64_t FrameBytes(const Prefix& prefix) { return HeadBytes(prefix) + prefix.payload_bytes; }

Status WrongSize(uint64_t n_bytes, uint64_t expected) {
  return DataLoss(Str(expected > n_bytes ? "frame is cut short:" : "frame has bytes left over:",
                      Kv("bytes", n_bytes), Kv("expected", expected)));
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

void EncodeFrameHead(const FrameView& frame, std::vector<std::byte>* out) {
  const Prefix prefix{kFrameMagic, static_cast<uint32_t>(frame.header.size()),
                      frame.payload.size()};
  out->resize(kFramePrefixBytes + frame.header.size());
  std::memcpy(out->data(), &prefix, sizeof(prefix));
  CopyBytes(frame.header, out->data() + kFramePrefixBytes);
}

Status DecodeFrame(std::span<const std::byte> bytes, Frame* frame) {
  TC_ASSIGN_OR_RETURN(const Prefix prefix, ReadPrefix(bytes));
  if (bytes.size() != FrameBytes(prefix)) return WrongSize(bytes.size(), FrameBytes(prefix));
  const auto header = bytes.subspan(kFramePrefixBytes, prefix.header_bytes);
  const auto payload = bytes.subspan(HeadBytes(prefix));
  frame->header.assign(header.begin(), header.end());
  frame->payload.assign(payload.begin(), payload.end());
  return OkStatus();
}

Result<uint64_t> MissingPayloadBytes(std::span<const std::byte> bytes) {
  TC_ASSIGN_OR_RETURN(const Prefix prefix, ReadPrefix(bytes));
  if (bytes.size() == FrameBytes(prefix)) return uint64_t{0};
  if (bytes.size() == HeadBytes(prefix)) return prefix.payload_bytes;
  return WrongSize(bytes.size(), FrameBytes(prefix));
}

std::span<const std::byte> HeaderOfHead(std::span<const std::byte> bytes) {
  return bytes.subspan(kFramePrefixBytes);
}

}  // namespace thermocline::comm
