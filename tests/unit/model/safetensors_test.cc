#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::IsOk;

std::vector<std::byte> FileOf(const std::string& header, size_t data_bytes,
                              int64_t header_bytes = -1) {
  const uint64_t n = header_bytes < 0 ? header.size() : static_cast<uint64_t>(header_bytes);
  std::vector<std::byte> file(8 + header.size() + data_bytes);
  std::memcpy(file.data(), &n, 8);
  std::memcpy(file.data() + 8, header.data(), header.size());
  return file;
}

Result<std::vector<SafetensorsTensor>> Read(const std::vector<std::byte>& file) {
  return ReadSafetensors(*ReadFromMemory(file, "x.safetensors"));
}

TEST(Safetensors, TensorsComeInTheOrderOfTheirBytes) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("late":{"dtype":"BF16","shape":[2,3],"data_offsets":[16,28]},)"
                             R"("early":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
                             R"("one":{"dtype":"F16","shape":[],"data_offsets":[28,30]}})";
  const auto tensors = Read(FileOf(header, 30));
  ASSERT_THAT(tensors.status(), IsOk());
  ASSERT_EQ(tensors->size(), 3u);
  const SafetensorsTensor& late = (*tensors)[1];
  EXPECT_EQ((*tensors)[0].name, "early");
  EXPECT_EQ(late.name, "late");
  EXPECT_THAT(late.shape, ElementsAre(2, 3));
  EXPECT_EQ(late.offset_bytes, 8 + header.size() + 16);
  EXPECT_EQ(late.size_bytes, 12u);
  EXPECT_EQ(*SafetensorsWeightType(late), DType::kBF16);
  EXPECT_TRUE((*tensors)[2].shape.empty());
}

TEST(Safetensors, OtherTypesAreNamedWhenAskedFor) {
  const auto tensors =
      Read(FileOf(R"({"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8));
  ASSERT_THAT(tensors.status(), IsOk());
  const Status status = SafetensorsWeightType(tensors->front()).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("ids is I64"));
}

struct BadFile {
  std::string what;
  std::string header;
  std::string error;
};

TEST(Safetensors, HeadersThatLieAreRefused) {
  const BadFile kBad[] = {
      {"no JSON", "{", "no sound JSON"},
      {"no object", "[1]", "no sound JSON"},
      {"name twice",
       R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "no sound JSON"},
      {"tensor no object", R"({"a":3})", "no object: a"},
      {"no dtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "dtype is no text: a"},
      {"no shape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "shape is no array"},
      {"negative dimension", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
       "dimension out of bounds: a"},
      {"fractional dimension", R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})",
       "dimension out of bounds: a"},
      {"huge dimension",
       R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})",
       "dimension out of bounds: a"},
      {"overflowing shape",
       R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}})",
       "shape overflows: a"},
      {"five dimensions", R"({"a":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})",
       "shape is no array"},
      {"no offsets", R"({"a":{"dtype":"F32","shape":[1]}})", "data_offsets are not two"},
      {"offsets backwards", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})",
       "tensor outside file: a begin=8 end=4"},
      {"offset beyond the file", R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})",
       "tensor outside file: a begin=0 end=32 data=16"},
      {"wrong size", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})",
       "not that of its shape: a shape=4 data=8"},
      {"overlap",
       R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       "tensors overlap: a and b"},
  };
  for (const BadFile& bad : kBad) {
    const auto tensors = Read(FileOf(bad.header, 16));
    EXPECT_EQ(tensors.status().code(), StatusCode::kDataLoss) << bad.what;
    EXPECT_THAT(tensors.status().message(), HasSubstr(bad.error)) << bad.what;
  }
}

TEST(Safetensors, LengthsAreCheckedBeforeMemoryIsTaken) {
  const std::string header = "{}";
  EXPECT_THAT(Read(FileOf(header, 0)).status(), IsOk());
  EXPECT_THAT(Read(FileOf(header, 0, 3)).status().message(), HasSubstr("header=3 file=10"));
  EXPECT_THAT(Read(FileOf(header, 0, 100'000'001)).status().message(), HasSubstr("too long"));
  EXPECT_EQ(Read(std::vector<std::byte>(7)).status().code(), StatusCode::kDataLoss);
}

TEST(Safetensors, DeepNestingIsRefused) {
  const std::string deep = R"({"a":)" + std::string(10000, '[') + std::string(10000, ']') + "}";
  EXPECT_EQ(Read(FileOf(deep, 0)).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace thermocline::model
