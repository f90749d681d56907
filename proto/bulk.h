// The bulk channel: how a worker without the model file asks the coordinator for byte ranges of it.
// Fixed little-endian headers, no Protobuf: the payload of a reply is the bytes themselves.
//
//   request  u32 "TCBQ", u32 length_bytes, u64 offset_bytes
//   reply    u32 "TCBR", u32 length_bytes, u64 offset_bytes, u64 checksum (XXH3-64 of the payload)
//   A request with magic "TCBC" asks for the checksum only; its reply has magic "TCBS" and no
//   payload. So a cache from an earlier run is compared without moving its bytes.
//   A reply with length 0 refuses the request; its payload is the reason as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace thermocline::proto {

// One chunk: large enough to amortise a round trip (1 MiB at 100 MB/s is 10 ms), small enough that
// a worker fetches little beyond its own ranges.
inline constexpr uint32_t kBulkChunkBytes = 1u << 20;

struct BulkRequest {
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;  // 1 .. kBulkChunkBytes
  bool checksum_only = false;
  friend bool operator==(const BulkRequest&, const BulkRequest&) = default;
};

struct BulkReply {
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
  uint64_t checksum = 0;
  bool checksum_only = false;
  friend bool operator==(const BulkReply&, const BulkReply&) = default;
};

std::vector<std::byte> EncodeBulkRequest(const BulkRequest& request);
std::vector<std::byte> EncodeBulkReply(const BulkReply& reply);
// kDataLoss names the wrong field.
Result<BulkRequest> DecodeBulkRequest(std::span<const std::byte> header);
// Also checks that `payload` has the stated length and checksum, or is empty beside a checksum
// alone. kUnavailable for a refusal.
Result<BulkReply> DecodeBulkReply(std::span<const std::byte> header,
                                  std::span<const std::byte> payload);

}  // namespace thermocline::proto
