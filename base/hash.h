// A fast 64-bit and 128-bit checksum for verifying bytes that crossed a wire or lay in a cache.
// Not for secrets: CURVE authenticates the wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace thermocline {

// XXH3, 64 bits, of `bytes`.
uint64_t Checksum64(std::span<const std::byte> bytes);
// XXH3, 128 bits, as 32 hexadecimal digits; names a model or a cache entry.
std::string Fingerprint128(std::span<const std::byte> bytes);

}  // namespace thermocline
