#include "model/gguf_cursor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/gguf_image.h"

namespace thermocline::model {
namespace {

using testing::Packed;
using testing::PackedString;

std::vector<std::byte> Bytes(const std::string& text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

TEST(GgufCursor, ReadsFieldsInOrder) {
  const auto bytes = Bytes(Packed(uint32_t{7}) + PackedString("abc") + PackedString(""));
  const auto reader = ReadFromMemory(bytes, "bytes");
  GgufCursor cursor(*reader);
  uint32_t number = 0;
  std::string text, empty = "not empty";
  ASSERT_TRUE(cursor.Read(&number).ok());
  ASSERT_TRUE(cursor.ReadString(1, 3, &text).ok());
  ASSERT_TRUE(cursor.ReadString(0, 3, &empty).ok());
  EXPECT_EQ(number, 7u);
  EXPECT_EQ(text, "abc");
  EXPECT_EQ(empty, "");
  EXPECT_EQ(cursor.position(), bytes.size());
  EXPECT_EQ(cursor.remaining(), 0u);
}

TEST(GgufCursor, AStringBeyondTheFileTakesNoMemory) {
  const auto bytes = Bytes(Packed(uint64_t{kMaxStringBytes}) + "x");
  const auto reader = ReadFromMemory(bytes, "bytes");
  GgufCursor cursor(*reader);
  std::string text;
  EXPECT_EQ(cursor.ReadString(0, kMaxStringBytes, &text).code(), StatusCode::kDataLoss);
  EXPECT_LT(text.capacity(), 64u);
}

TEST(GgufCursor, TheHeaderHasALongestLength) {
  const auto bytes = Bytes(Packed(uint64_t{1}) + Packed(uint64_t{2}));
  const auto reader = ReadFromMemory(bytes, "bytes");
  GgufCursor cursor(*reader, 12);
  uint64_t number = 0;
  EXPECT_TRUE(cursor.Read(&number).ok());
  const Status status = cursor.Read(&number);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), ::testing::HasSubstr("header too long"));
}

}  // namespace
}  // namespace thermocline::model
