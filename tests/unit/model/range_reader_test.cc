#include "model/range_reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/support/temp_file.h"

namespace thermocline::model {
namespace {

std::vector<std::byte> Bytes(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Both readers behave alike.
void ExpectReadsHello(const RangeReader& reader) {
  EXPECT_EQ(reader.size_bytes(), 5u);
  EXPECT_EQ(Text(reader.Mapping()), "hello");
  std::array<std::byte, 3> out{};
  ASSERT_TRUE(reader.Read(1, out).ok());
  EXPECT_EQ(Text(out), "ell");
  EXPECT_TRUE(reader.Read(5, {}).ok());
  EXPECT_TRUE(reader.Read(2, out).ok());
  for (const uint64_t offset : {uint64_t{3}, uint64_t{5}, std::numeric_limits<uint64_t>::max()}) {
    const Status status = reader.Read(offset, out);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << offset;
    EXPECT_NE(status.message().find("range outside file"), std::string::npos) << status;
  }
}

TEST(RangeReader, ReadsMemory) {
  const auto bytes = Bytes("hello");
  const auto reader = ReadFromMemory(bytes, "some bytes");
  EXPECT_EQ(reader->name(), "some bytes");
  ExpectReadsHello(*reader);
}

TEST(RangeReader, ReadsAMappedFile) {
  const testing::TempFile file(Bytes("hello"));
  const auto reader = OpenMappedFile(file.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->name(), file.path());
  ExpectReadsHello(**reader);
}

TEST(RangeReader, NoSuchFile) {
  for (const std::string path : {"/nonexistent/model.gguf", "/dev/null/model.gguf"}) {
    const auto reader = OpenMappedFile(path);
    EXPECT_EQ(reader.status().code(), StatusCode::kNotFound) << path;
    EXPECT_NE(reader.status().message().find(path), std::string::npos) << reader.status();
  }
}

TEST(RangeReader, RefusesWhatIsNoRegularFile) {
  for (const std::string path : {"/tmp", "/dev/null"}) {
    EXPECT_EQ(OpenMappedFile(path).status().code(), StatusCode::kInvalidArgument) << path;
  }
}

TEST(RangeReader, RefusesAnEmptyFile) {
  const testing::TempFile file({});
  const auto reader = OpenMappedFile(file.path());
  EXPECT_EQ(reader.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(reader.status().message().find("empty file"), std::string::npos) << reader.status();
}

TEST(RangeReader, AFileCutShortIsDataLoss) {
  const testing::TempFile file(Bytes("hello"));
  const auto reader = OpenMappedFile(file.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_EQ(truncate(file.path().c_str(), 2), 0);
  std::array<std::byte, 4> out{};
  EXPECT_EQ((*reader)->Read(0, out).code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace thermocline::model
