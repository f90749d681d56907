// The catalogue of malformed files: each field lies in turn, and the error names it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/gguf_parser.h"
#include "tests/support/gguf_image.h"

namespace thermocline::model {
namespace {

using testing::GgufImage;
using ::testing::HasSubstr;
using testing::Packed;
using testing::PackedString;

constexpr auto kInvalid = StatusCode::kInvalidArgument;
constexpr auto kLoss = StatusCode::kDataLoss;
constexpr uint64_t kHuge = uint64_t{1} << 62;

// Ids of value types in a file.
constexpr uint32_t kU8 = 0, kU16 = 2, kBool = 7, kString = 8, kArray = 9;

GgufImage ValidImage() {
  GgufImage image;
  image.AddString("name", "x").AddU32("count", 1).AddStrings("list", {"a", "b"});
  image.AddZeros("w", DType::kQ4_0, {2, 64}).AddZeros("v", DType::kF32, {16});
  return image;
}

std::string ArrayHead(uint32_t type, uint64_t n_elems) { return Packed(type) + Packed(n_elems); }

struct Malformed {
  std::string name;
  std::function<void(GgufImage&)> mutate;
  StatusCode code;
  std::string message;  // must occur in the error
};

std::vector<Malformed> HeaderCases() {
  return {
      {"magic", [](GgufImage& f) { f.magic = "GGML"; }, kInvalid, "magic"},
      {"reversed magic", [](GgufImage& f) { f.magic = "FUGG"; }, kInvalid, "magic"},
      {"version 0", [](GgufImage& f) { f.version = 0; }, kInvalid, "version=0"},
      {"version 1", [](GgufImage& f) { f.version = 1; }, kInvalid, "version=1"},
      {"version 4", [](GgufImage& f) { f.version = 4; }, kInvalid, "version=4"},
      {"big-endian", [](GgufImage& f) { f.version = 0x03000000; }, kInvalid, "byte-swapped"},
      {"tensor count", [](GgufImage& f) { f.n_tensors = kHuge; }, kLoss, "tensor count"},
      {"negative tensor count", [](GgufImage& f) { f.n_tensors = ~uint64_t{0}; }, kLoss,
       "tensor count"},
      {"one tensor too many", [](GgufImage& f) { f.n_tensors = 3; }, kInvalid, "tensor 2: name"},
      {"metadata count", [](GgufImage& f) { f.n_keys = kHuge; }, kLoss, "metadata count"},
      {"negative metadata count", [](GgufImage& f) { f.n_keys = ~uint64_t{0}; }, kLoss,
       "metadata count"},
      {"metadata count above the limit",
       [](GgufImage& f) {
         f.n_keys = kMaxMetadataKeys + 1;
         f.AddZeros("big", DType::kF32, {1 << 19});
       },
       kInvalid, "metadata count too large"},
  };
}

std::vector<Malformed> MetadataCases() {
  return {
      {"empty key", [](GgufImage& f) { f.Key("count").key = ""; }, kInvalid, "length=0"},
      {"long key", [](GgufImage& f) { f.Key("count").key.assign(70000, 'k'); }, kInvalid,
       "length=70000"},
      {"key twice", [](GgufImage& f) { f.Key("count").key = "name"; }, kLoss,
       "key occurs twice: name"},
      {"value type", [](GgufImage& f) { f.Key("count").type = 13; }, kInvalid,
       "count: unknown value type: id=13"},
      {"negative value type", [](GgufImage& f) { f.Key("count").type = ~0u; }, kInvalid,
       "unknown value type"},
      {"nested array", [](GgufImage& f) { f.Key("list").payload = ArrayHead(kArray, 1); }, kInvalid,
       "list: array of arrays"},
      {"array element type", [](GgufImage& f) { f.Key("list").payload = ArrayHead(99, 1); },
       kInvalid, "unknown array element type: id=99"},
      {"array of strings outside file",
       [](GgufImage& f) { f.Key("list").payload = ArrayHead(kString, 10000); }, kLoss,
       "list: array outside file"},
      {"array of bytes outside file",
       [](GgufImage& f) { f.Key("list").payload = ArrayHead(kU8, 100000); }, kLoss,
       "list: array outside file"},
      {"array above the limit", [](GgufImage& f) { f.Key("list").payload = ArrayHead(kU8, kHuge); },
       kInvalid, "list: array too long"},
      {"array element string",
       [](GgufImage& f) {
         f.Key("list").payload = ArrayHead(kString, 2) + PackedString("a") + Packed(kHuge >> 40);
       },
       kLoss, "list: element 1"},
      {"bool", [](GgufImage& f) { f.AddRaw("flag", kBool, Packed(uint8_t{2})); }, kLoss,
       "flag: bool is neither 0 nor 1: value=2"},
      {"bool in an array",
       [](GgufImage& f) { f.AddRaw("flags", kArray, ArrayHead(kBool, 1) + Packed(uint8_t{3})); },
       kLoss, "flags: element 0: bool"},
      {"string outside file",
       [](GgufImage& f) { f.Key("name").payload = Packed(uint64_t{5000}) + "x"; }, kLoss,
       "name: file ends inside the field"},
      {"string above the limit",
       [](GgufImage& f) { f.Key("name").payload = Packed(~uint64_t{0}) + "x"; }, kInvalid,
       "name: string length out of bounds"},
      {"split file", [](GgufImage& f) { f.AddRaw("split.count", kU16, Packed(uint16_t{3})); },
       kInvalid, "split.count=3"},
      {"split count of a wrong type", [](GgufImage& f) { f.AddString("split.count", "3"); },
       kInvalid, "split.count"},
  };
}

std::vector<Malformed> AlignmentCases() {
  const auto with = [](uint32_t alignment) {
    return [alignment](GgufImage& f) { f.AddU32("general.alignment", alignment); };
  };
  return {
      {"alignment type", [](GgufImage& f) { f.AddU64("general.alignment", 32); }, kInvalid,
       "general.alignment must be u32: type=u64"},
      {"alignment as text", [](GgufImage& f) { f.AddString("general.alignment", "32"); }, kInvalid,
       "general.alignment must be u32: type=string"},
      {"alignment 0", with(0), kInvalid, "general.alignment"},
      {"alignment no power of two", with(48), kInvalid, "general.alignment"},
      {"alignment too small", with(4), kInvalid, "general.alignment"},
      {"alignment above the limit", with(1u << 17), kInvalid, "general.alignment"},
      {"offset unaligned for a larger alignment", with(128), kLoss, "v: offset is not aligned"},
  };
}

std::vector<Malformed> TensorCases() {
  const auto dims = [](std::vector<int64_t> value) {
    return [value](GgufImage& f) { f.Tensor("w").dims = value; };
  };
  const auto type = [](uint32_t id) { return [id](GgufImage& f) { f.Tensor("w").type_id = id; }; };
  const auto offset = [](uint64_t value) {
    return [value](GgufImage& f) { f.Tensor("v").offset = value; };
  };
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  return {
      {"empty name", [](GgufImage& f) { f.Tensor("w").name = ""; }, kInvalid, "length=0"},
      {"long name", [](GgufImage& f) { f.Tensor("w").name.assign(64, 'n'); }, kInvalid,
       "length=64"},
      {"name twice", [](GgufImage& f) { f.Tensor("w").name = "v"; }, kLoss,
       "tensor name occurs twice: v"},
      {"no dimension", [](GgufImage& f) { f.Tensor("w").n_dims = 0; }, kInvalid, "w: n_dims"},
      {"five dimensions", dims({32, 1, 1, 1, 1}), kInvalid, "n_dims=5"},
      {"many dimensions", [](GgufImage& f) { f.Tensor("w").n_dims = ~0u; }, kInvalid, "w: n_dims"},
      {"dimension 0 inside", dims({0, 2}), kLoss, "w: dimension must be positive: index=0"},
      {"dimension 0 outside", dims({32, 0}), kLoss, "w: dimension must be positive: index=1"},
      {"negative dimension", dims({-32, 2}), kLoss, "dimension=-32"},
      {"product overflows", dims({1 << 30, 1 << 30, 1 << 30}), kLoss,
       "w: dimension product overflows"},
      {"size overflows",
       [](GgufImage& f) {
         f.Tensor("v").dims = {kMax};  // F32: 4 bytes each
       },
       kLoss, "v: tensor size overflows"},
      {"size wraps to a small one",
       [](GgufImage& f) { f.Tensor("v").dims = {(int64_t{1} << 62) + 4}; }, kLoss,
       "v: tensor size overflows"},
      {"unknown type", type(77), kInvalid, "w: unknown tensor type: id=77"},
      {"removed type", type(4), kInvalid, "w: unknown tensor type: id=4"},
      {"Q5_0", type(6), kInvalid, "w: unsupported tensor type: Q5_0"},
      {"IQ4_XS", type(23), kInvalid, "w: unsupported tensor type: IQ4_XS"},
      {"PowerInfer's I32 in a GGUF file", type(18), kInvalid, "IQ3_XXS"},
      {"BF16 in a PowerInfer file",
       [](GgufImage& f) {
         f.magic = "PWRI";
         f.Tensor("w").type_id = 30;
       },
       kInvalid, "w: unknown tensor type: id=30"},
      {"row not whole blocks", dims({48, 2}), kLoss, "w: row is not a whole number of Q4_0"},
      {"offset unaligned", offset(80), kLoss, "v: offset is not aligned: offset=80"},
      {"outside file", offset(96 + 32), kLoss, "tensor outside file: v end="},
      {"far outside file", offset(kHuge), kLoss, "tensor outside file: v"},
      {"offset wraps", offset(~uint64_t{0} - 31), kLoss, "tensor outside file: v"},
      {"too long for the file", dims({64, 1000}), kLoss, "tensor outside file: w"},
      {"overlap", offset(64), kLoss, "tensors overlap: w and v"},
      {"same place", offset(0), kLoss, "tensors overlap"},
  };
}

TEST(GgufMalformed, TheUnchangedFileParses) {
  const auto bytes = ValidImage().Bytes();
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "valid"));
  EXPECT_TRUE(file.ok()) << file.status();
}

TEST(GgufMalformed, EachLieIsNamed) {
  for (const auto& cases : {HeaderCases(), MetadataCases(), AlignmentCases(), TensorCases()}) {
    for (const Malformed& malformed : cases) {
      GgufImage image = ValidImage();
      malformed.mutate(image);
      const auto bytes = image.Bytes();
      const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "lying.gguf"));
      ASSERT_FALSE(file.ok()) << malformed.name;
      EXPECT_EQ(file.status().code(), malformed.code) << malformed.name << ": " << file.status();
      EXPECT_THAT(file.status().message(), HasSubstr(malformed.message)) << malformed.name;
      EXPECT_THAT(file.status().message(), HasSubstr("lying.gguf")) << malformed.name;
    }
  }
}

TEST(GgufMalformed, EveryTruncationIsAnError) {
  const auto bytes = ValidImage().Bytes();
  for (size_t n = 0; n < bytes.size(); ++n) {
    // A copy of exactly that size, so that the sanitizer sees a read past its end.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    const auto file = GgufFile::Parse(*ReadFromMemory(cut, "cut"));
    ASSERT_FALSE(file.ok()) << "length " << n;
    EXPECT_EQ(file.status().code(), kLoss) << "length " << n << ": " << file.status();
  }
}

TEST(GgufMalformed, EveryFlippedHeaderByteParsesOrIsAnError) {
  const GgufImage image = ValidImage();
  auto bytes = image.Bytes();
  const size_t n_header = image.HeaderBytes().size();
  int n_errors = 0;
  for (size_t i = 0; i < n_header; ++i) {
    const std::byte original = bytes[i];
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      bytes[i] = original ^ static_cast<std::byte>(flip);
      const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "flipped"));
      if (file.ok()) continue;
      ++n_errors;
      EXPECT_FALSE(file.status().message().empty());
    }
    bytes[i] = original;
  }
  EXPECT_GT(n_errors, 0);
}

}  // namespace
}  // namespace thermocline::model
