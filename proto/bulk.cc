#include "proto/bulk.h"

#include <cstring>
#include <string>

#include "base/hash.h"
#include "base/str.h"

namespace thermocline::proto {
namespace {

constexpr uint32_t kRequestMagic = 0x51424354;          // "TCBQ"
constexpr uint32_t kReplyMagic = 0x52424354;            // "TCBR"
constexpr uint32_t kChecksumRequestMagic = 0x43424354;  // "TCBC"
constexpr uint32_t kChecksumReplyMagic = 0x53424354;    // "TCBS"
constexpr size_t kRequestBytes = 16;
constexpr size_t kReplyBytes = 24;

template <typename T>
void Append(T value, std::vector<std::byte>* out) {
  const size_t at = out->size();
  out->resize(at + sizeof value);
  std::memcpy(out->data() + at, &value, sizeof value);
}

template <typename T>
T ReadAt(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Which of the two kinds a header is of: true for that of a checksum alone.
Result<bool> IsChecksumOnly(std::span<const std::byte> header, size_t n_bytes, uint32_t bytes_magic,
                            uint32_t checksum_magic) {
  if (header.size() != n_bytes) {
    return DataLoss(Str("bulk header has another length:", Kv("bytes", header.size()),
                        Kv("expected", n_bytes)));
  }
  const auto magic = ReadAt<uint32_t>(header, 0);
  if (magic != bytes_magic && magic != checksum_magic) {
    return DataLoss("bulk header has another magic");
  }
  return magic == checksum_magic;
}

}  // namespace

std::vector<std::byte> EncodeBulkRequest(const BulkRequest& request) {
  std::vector<std::byte> out;
  Append(request.checksum_only ? kChecksumRequestMagic : kRequestMagic, &out);
  Append(request.length_bytes, &out);
  Append(request.offset_bytes, &out);
  return out;
}

std::vector<std::byte> EncodeBulkReply(const BulkReply& reply) {
  std::vector<std::byte> out;
  Append(reply.checksum_only ? kChecksumReplyMagic : kReplyMagic, &out);
  Append(reply.length_bytes, &out);
  Append(reply.offset_bytes, &out);
  Append(reply.checksum, &out);
  return out;
}

Result<BulkRequest> DecodeBulkRequest(std::span<const std::byte> header) {
  TC_ASSIGN_OR_RETURN(const bool checksum_only,
                      IsChecksumOnly(header, kRequestBytes, kRequestMagic, kChecksumRequestMagic));
  const BulkRequest request{ReadAt<uint64_t>(header, 8), ReadAt<uint32_t>(header, 4),
                            checksum_only};
  if (request.length_bytes == 0 || request.length_bytes > kBulkChunkBytes) {
    return DataLoss(Str("bulk request length out of range:", Kv("bytes", request.length_bytes),
                        Kv("max", kBulkChunkBytes)));
  }
  return request;
}

Result<BulkReply> DecodeBulkReply(std::span<const std::byte> header,
                                  std::span<const std::byte> payload) {
  TC_ASSIGN_OR_RETURN(const bool checksum_only,
                      IsChecksumOnly(header, kReplyBytes, kReplyMagic, kChecksumReplyMagic));
  const BulkReply reply{ReadAt<uint64_t>(header, 8), ReadAt<uint32_t>(header, 4),
                        ReadAt<uint64_t>(header, 16), checksum_only};
  if (reply.length_bytes == 0) {
    const std::string reason(reinterpret_cast<const char*>(payload.data()), payload.size());
    return Unavailable("the coordinator refused a range of the model: " + Printable(reason));
  }
  const size_t expected = checksum_only ? 0 : reply.length_bytes;
  if (payload.size() != expected) {
    return DataLoss(Str("bulk reply has another length:", Kv("bytes", payload.size()),
                        Kv("expected", expected)));
  }
  if (!checksum_only && Checksum64(payload) != reply.checksum) {
    return DataLoss(Str("bulk reply fails its checksum:", Kv("offset", reply.offset_bytes)));
  }
  return reply;
}

}  // namespace thermocline::proto
