#include "model/fingerprint.h"

#include <cstring>
#include <span>
#include <vector>

#include "base/hash.h"

namespace thermocline::model {

Result<std::string> FingerprintOf(const RangeReader& reader, uint64_t header_bytes) {
  std::vector<std::byte> bytes(header_bytes + sizeof(uint64_t));
  TC_RETURN_IF_ERROR(reader.Read(0, std::span(bytes).first(header_bytes)));
  const uint64_t size_bytes = reader.size_bytes();
  std::memcpy(bytes.data() + header_bytes, &size_bytes, sizeof size_bytes);
  return Fingerprint128(bytes);
}

}  // namespace thermocline::model
