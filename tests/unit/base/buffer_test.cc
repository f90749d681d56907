#include "base/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/units.h"

namespace thermocline {
namespace {

TEST(Buffer, EmptyByDefault) {
  const Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.data(), nullptr);
}

// On both sides of the size from which regions are mapped.
TEST(Buffer, IsAlignedZeroedAndWritable) {
  for (const uint64_t n_bytes : {uint64_t{1}, uint64_t{65}, 2 * kMiB - 1, 2 * kMiB, 5 * kMiB + 3}) {
    auto buffer = Buffer::Allocate(n_bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->size(), n_bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u) << n_bytes;
    EXPECT_TRUE(std::all_of(buffer->data(), buffer->data() + n_bytes,
                            [](std::byte b) { return b == std::byte{0}; }));
    buffer->data()[n_bytes - 1] = std::byte{7};
    EXPECT_EQ(buffer->data()[n_bytes - 1], std::byte{7});
  }
}

TEST(Buffer, LargeRegionsBeginWhereAHugePageDoes) {
  for (const uint64_t n_bytes : {2 * kMiB, 5 * kMiB + 3, 18 * kMiB + 32}) {
    const auto buffer = Buffer::Allocate(n_bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % (2 * kMiB), 0u) << n_bytes;
  }
}

TEST(Buffer, MoreThanThereIsIsAnError) {
  for (const uint64_t n_bytes : {uint64_t{1} << 61, ~uint64_t{0}}) {
    EXPECT_EQ(Buffer::Allocate(n_bytes).status().code(), StatusCode::kResourceExhausted);
  }
}

TEST(Buffer, NothingIsAnEmptyBuffer) {
  const auto buffer = Buffer::Allocate(0);
  ASSERT_TRUE(buffer.ok());
  EXPECT_TRUE(buffer->empty());
}

TEST(Buffer, MovesItsMemory) {
  auto first = Buffer::Allocate(100);
  ASSERT_TRUE(first.ok());
  const std::byte* data = first->data();
  Buffer second = std::move(*first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.size(), 100u);
  second = Buffer();
  EXPECT_TRUE(second.empty());
}

TEST(Buffer, TooMuchIsAnError) {
  // More than the address space holds.
  const auto buffer = Buffer::Allocate(uint64_t{1} << 60);
  EXPECT_EQ(buffer.status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace thermocline
