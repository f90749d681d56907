// What travels: a small header and one payload. Nobody in comm/ knows what either means.
//
// On a byte stream (MPI message, bulk channel) a frame is preceded by a fixed prefix, little
// endian: u32 magic "TCF1", u32 header_bytes, u64 payload_bytes. A transport may send the payload
// as a message of its own, after the frame's head: the prefix and the header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace thermocline::comm {

// Owned bytes of a received frame; reused from receive to receive so that a warm step loop does not
// allocate.
struct Frame {
  std::vector<std::byte> header;
  std::vector<std::byte> payload;
};

// Borrowed bytes of a frame to send; copied or sent before Send returns.
struct FrameView {
  std::span<const std::byte> header;
  std::span<const std::byte> payload;
};

inline constexpr uint32_t kFrameMagic = 0x31464354;  // "TCF1"
inline constexpr size_t kFramePrefixBytes = 16;
// A step header lists at most a batch of tokens with their sampling parameters: 4 MiB holds 2048
// tokens with 32 sequences' parameters many times over.
inline constexpr uint32_t kMaxHeaderBytes = 4u << 20;
// The largest activation: 8192 tokens x 16384 columns x 4 bytes.
inline constexpr uint64_t kMaxPayloadBytes = uint64_t{512} << 20;

// kInvalidArgument when a part is over its limit; checked by every Send.
Status CheckFrameLimits(const FrameView& frame);

inline size_t EncodedFrameBytes(const FrameView& frame) {
  return kFramePrefixBytes + frame.header.size() + frame.payload.size();
}
// Writes EncodedFrameBytes(frame) bytes to `out`: prefix, header, payload.
void EncodeFrameTo(const FrameView& frame, std::byte* out);

// Prefix, header and payload as one contiguous message that replaces the content of `out`.
void EncodeFrame(const FrameView& frame, std::vector<std::byte>* out);
// The inverse. kDataLoss names what is wrong: magic, a length over its limit, or bytes missing or
// left over.
Status DecodeFrame(std::span<const std::byte> bytes, Frame* frame);

// The head alone; the payload's size is in its prefix.
void EncodeFrameHead(const FrameView& frame, std::vector<std::byte>* out);
// How many bytes of the frame that begins with `bytes` are missing: 0 for a whole frame, its
// payload for a head. kDataLoss as DecodeFrame, for any other number too.
Result<uint64_t> MissingPayloadBytes(std::span<const std::byte> bytes);
// The header of a head that MissingPayloadBytes has accepted.
std::span<const std::byte> HeaderOfHead(std::span<const std::byte> bytes);

}  // namespace thermocline::comm
