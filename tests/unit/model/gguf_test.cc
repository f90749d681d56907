#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/str.h"
#include "model/gguf_parser.h"
#include "model/gguf_types.h"
#include "tests/support/tiny_model.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using testing::GgufImage;
using testing::Packed;
using testing::TinyModelSpec;

Result<GgufFile> ParseImage(const GgufImage& image) {
  const auto bytes = image.Bytes();
  return GgufFile::Parse(*ReadFromMemory(bytes, "image"));
}

// A reader that cannot map, and hands out bytes only in ranges.
class RangesOnly final : public RangeReader {
 public:
  explicit RangesOnly(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t size_bytes() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  Status Read(uint64_t offset, std::span<std::byte> out) const override {
    if (offset + out.size() > bytes_.size()) return InvalidArgument("outside");
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return OkStatus();
  }

 private:
  std::span<const std::byte> bytes_;
  std::string name_ = "ranges";
};

TEST(Gguf, AFileWithoutTensorsParses) {
  const auto file = ParseImage(GgufImage());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->dialect(), GgufDialect::kGguf);
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->header_bytes(), 24u);
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_TRUE(file->metadata().empty());
}

TEST(Gguf, Version2HasTheSameLayout) {
  GgufImage image;
  image.version = 2;
  image.AddU32("a", 7);
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->version(), 2u);
  EXPECT_EQ(*file->GetInt("a"), 7);
}

TEST(Gguf, ReadsEveryScalarType) {
  GgufImage image;
  image.AddRaw("u8", 0, Packed(uint8_t{200})).AddRaw("i8", 1, Packed(int8_t{-5}));
  image.AddRaw("u16", 2, Packed(uint16_t{60000})).AddRaw("i16", 3, Packed(int16_t{-300}));
  image.AddU32("u32", 4'000'000'000u).AddI32("i32", -7).AddF32("f32", 1.5f);
  image.AddBool("bool", true).AddString("string", "text");
  image.AddU64("u64", std::numeric_limits<uint64_t>::max());
  image.AddRaw("i64", 11, Packed(int64_t{-1} << 40)).AddRaw("f64", 12, Packed(0.1));
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*file->GetInt("u8"), 200);
  EXPECT_EQ(*file->GetInt("i8"), -5);
  EXPECT_EQ(*file->GetInt("u16"), 60000);
  EXPECT_EQ(*file->GetInt("i16"), -300);
  EXPECT_EQ(*file->GetInt("u32"), 4'000'000'000);
  EXPECT_EQ(*file->GetInt("i32"), -7);
  EXPECT_EQ(*file->GetFloat("f32"), 1.5);
  EXPECT_TRUE(*file->GetBool("bool"));
  EXPECT_EQ(*file->GetString("string"), "text");
  EXPECT_EQ(file->metadata().at("u64"), GgufValue(std::numeric_limits<uint64_t>::max()));
  EXPECT_EQ(*file->GetInt("i64"), int64_t{-1} << 40);
  EXPECT_EQ(*file->GetFloat("f64"), 0.1);
}

TEST(Gguf, ReadsArrays) {
  GgufImage image;
  image.AddStrings("strings", {"a", "", "ccc"}).AddF32s("floats", {0.5f, -2});
  image.AddI32s("ints", {-1, 2}).AddStrings("none", {});
  image.AddRaw("bools", 9, Packed(uint32_t{7}) + Packed(uint64_t{2}) + std::string("\x01\x00", 2));
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*file->GetStrings("strings"), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*file->GetFloats("floats"), ElementsAre(0.5, -2.0));
  EXPECT_THAT(*file->GetInts("ints"), ElementsAre(-1, 2));
  EXPECT_THAT(*file->GetFloats("ints"), ElementsAre(-1.0, 2.0));
  EXPECT_THAT(*file->GetStrings("none"), ElementsAre());
  EXPECT_EQ(file->metadata().at("bools"), GgufValue(std::vector<bool>{true, false}));
}

TEST(Gguf, TypedAccessSaysWhatIsWrong) {
  GgufImage image;
  image.AddU64("big", std::numeric_limits<uint64_t>::max()).AddString("text", "x");
  image.AddBool("flag", true).AddF32("real", 2.0f).AddI32s("ints", {1});
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->GetInt("absent").status().code(), StatusCode::kNotFound);
  EXPECT_THAT(file->GetInt("absent").status().message(), ::testing::HasSubstr("absent"));
  const Status wrong[] = {file->GetInt("big").status(),     file->GetInt("text").status(),
                          file->GetInt("flag").status(),    file->GetInt("real").status(),
                          file->GetInt("ints").status(),    file->GetFloat("flag").status(),
                          file->GetFloat("big").status(),   file->GetBool("real").status(),
                          file->GetString("flag").status(), file->GetInts("text").status(),
                          file->GetStrings("ints").status()};
  for (const Status& status : wrong) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(status.message(), ::testing::HasSubstr("wrong type")) << status;
  }
}

TEST(Gguf, ShapesAreOutermostFirst) {
  GgufImage image;
  image.AddZeros("w", DType::kF16, {3, 5}).AddZeros("cube", DType::kF32, {2, 3, 4});
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  const TensorInfo* w = file->FindTensor("w");
  ASSERT_NE(w, nullptr);
  EXPECT_THAT(w->shape, ElementsAre(3, 5));
  EXPECT_EQ(w->n_rows(), 3);
  EXPECT_EQ(w->n_cols(), 5);
  EXPECT_EQ(w->size_bytes, 30u);
  EXPECT_EQ(file->FindTensor("cube")->n_rows(), 6);
  EXPECT_EQ(file->FindTensor("absent"), nullptr);
}

TEST(Gguf, TensorsLieBehindTheAlignedHeader) {
  for (const uint32_t alignment : {8u, 32u, 4096u}) {
    GgufImage image;
    image.AddU32("general.alignment", alignment).alignment = alignment;
    image.AddTensor("a", DType::kF32, {1}, "abcd").AddTensor("b", DType::kF32, {1}, "efgh");
    const auto bytes = image.Bytes();
    const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "image"));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->header_bytes(), image.HeaderBytes().size());
    const TensorInfo* b = file->FindTensor("b");
    EXPECT_EQ(b->offset_bytes % alignment, 0u);
    EXPECT_EQ(std::memcmp(bytes.data() + b->offset_bytes, "efgh", 4), 0) << alignment;
  }
}

TEST(Gguf, OrderAndGapsAreFree) {
  GgufImage image;
  image.AddZeros("a", DType::kF32, {4})
      .AddZeros("b", DType::kF32, {4})
      .AddZeros("c", DType::kF32, {4});
  image.Tensor("a").offset = 64;
  image.Tensor("c").offset = 0;
  image.RemoveTensor("b");
  image.tensors.back().data.resize(128);
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_LT(file->FindTensor("c")->offset_bytes, file->FindTensor("a")->offset_bytes);
}

TEST(Gguf, EveryTypeHasTheSizeOfItsBlocks) {
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (IsFp8(dtype)) {  // of memory only: no file has them
      EXPECT_EQ(TensorTypeId(GgufDialect::kGguf, dtype), std::nullopt);
      EXPECT_EQ(TensorTypeId(GgufDialect::kPowerInfer, dtype), std::nullopt);
      continue;
    }
    GgufImage image;
    image.AddZeros("w", dtype, {2, 512});
    const auto file = ParseImage(image);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->FindTensor("w")->dtype, dtype);
    EXPECT_EQ(file->FindTensor("w")->size_bytes, 2 * RowBytes(dtype, 512)) << DTypeName(dtype);
  }
}

TEST(Gguf, PowerInferNumbersI32Differently) {
  EXPECT_EQ(TensorTypeId(GgufDialect::kGguf, DType::kI32), 26u);
  EXPECT_EQ(TensorTypeId(GgufDialect::kPowerInfer, DType::kI32), 18u);
  GgufImage image = GgufImage::Of(GgufDialect::kPowerInfer);
  image.AddZeros("blk.0.gpu_idx", DType::kI32, {32});
  const auto file = ParseImage(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->dialect(), GgufDialect::kPowerInfer);
  EXPECT_EQ(file->tensors()[0].dtype, DType::kI32);
}

TEST(Gguf, AReaderThatCannotMapGivesTheSame) {
  // Enough tokens that the header is longer than one window of the cursor.
  TinyModelSpec spec;
  spec.n_vocab = 9000;
  spec.n_embd = 8;
  spec.n_ff = 8;
  const auto bytes = testing::TinyModel(spec);
  const auto mapped = GgufFile::Parse(*ReadFromMemory(bytes, "mapped"));
  const auto ranged = GgufFile::Parse(RangesOnly(bytes));
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  ASSERT_TRUE(ranged.ok()) << ranged.status();
  EXPECT_GT(mapped->header_bytes(), 128u * 1024);
  EXPECT_EQ(mapped->header_bytes(), ranged->header_bytes());
  EXPECT_EQ(mapped->metadata(), ranged->metadata());
  ASSERT_EQ(mapped->tensors().size(), ranged->tensors().size());
  for (size_t i = 0; i < mapped->tensors().size(); ++i) {
    EXPECT_EQ(mapped->tensors()[i].name, ranged->tensors()[i].name);
    EXPECT_EQ(mapped->tensors()[i].offset_bytes, ranged->tensors()[i].offset_bytes);
  }
}

}  // namespace
}  // namespace thermocline::model
