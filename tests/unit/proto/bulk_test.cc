#include "proto/bulk.h"

#include <gtest/gtest.h>

#include "base/hash.h"

namespace thermocline::proto {
namespace {

const std::vector<std::byte> kPayload(100, std::byte{7});

TEST(Bulk, RequestsComeBackAsTheyWere) {
  for (const bool checksum_only : {false, true}) {
    const BulkRequest request{1ull << 40, 77, checksum_only};
    const auto decoded = DecodeBulkRequest(EncodeBulkRequest(request));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, request);
  }
}

TEST(Bulk, RequestsOutOfRangeAreRefused) {
  EXPECT_FALSE(DecodeBulkRequest(EncodeBulkRequest({0, 0})).ok());
  EXPECT_FALSE(DecodeBulkRequest(EncodeBulkRequest({0, kBulkChunkBytes + 1})).ok());
  auto header = EncodeBulkRequest({0, 1});
  header.pop_back();
  EXPECT_FALSE(DecodeBulkRequest(header).ok());
  EXPECT_FALSE(DecodeBulkRequest(EncodeBulkReply({0, 1, 0})).ok());
}

TEST(Bulk, RepliesCarryTheirBytesOrOnlyAChecksum) {
  const BulkReply bytes{5, 100, Checksum64(kPayload)};
  EXPECT_EQ(*DecodeBulkReply(EncodeBulkReply(bytes), kPayload), bytes);
  const BulkReply alone{5, 100, 1234, true};
  EXPECT_EQ(*DecodeBulkReply(EncodeBulkReply(alone), {}), alone);
}

TEST(Bulk, RepliesThatContradictTheirPayloadAreRefused) {
  const auto code = [](const BulkReply& reply, std::span<const std::byte> payload) {
    return DecodeBulkReply(EncodeBulkReply(reply), payload).status().code();
  };
  EXPECT_EQ(code({5, 100, 1}, kPayload), StatusCode::kDataLoss);
  EXPECT_EQ(code({5, 99, Checksum64(kPayload)}, kPayload), StatusCode::kDataLoss);
  EXPECT_EQ(code({5, 100, 1, true}, kPayload), StatusCode::kDataLoss);
  EXPECT_EQ(code({5, 0, 0}, kPayload), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace thermocline::proto
