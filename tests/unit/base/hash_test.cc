#include "base/hash.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace thermocline {
namespace {

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The digests of no bytes that XXH3's reference implementation gives.
TEST(Hash, KnownAnswers) {
  EXPECT_EQ(Checksum64({}), 0x2d06800538d394c2u);
  EXPECT_EQ(Fingerprint128({}), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, EqualBytesEqualHash) {
  EXPECT_EQ(Checksum64(BytesOf("weights")), Checksum64(BytesOf("weights")));
  EXPECT_EQ(Fingerprint128(BytesOf("weights")), Fingerprint128(BytesOf("weights")));
}

TEST(Hash, EveryFlippedBitShows) {
  std::vector<std::byte> bytes(1000, std::byte{0x5a});
  const uint64_t checksum = Checksum64(bytes);
  const std::string fingerprint = Fingerprint128(bytes);
  EXPECT_EQ(fingerprint.size(), 32u);
  for (std::byte& byte : bytes) {
    byte ^= std::byte{1};
    EXPECT_NE(Checksum64(bytes), checksum);
    EXPECT_NE(Fingerprint128(bytes), fingerprint);
    byte ^= std::byte{1};
  }
}

}  // namespace
}  // namespace thermocline
