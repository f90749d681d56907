// A quantised model against itself with every weight widened to F32 beforehand: what the kernels
// decode on the way must be what the file says.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <variant>

#include "kernels/device.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "tests/support/gguf_image.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/test_paths.h"

namespace thermocline::worker {
namespace {

using testing::GgufImage;
using testing::StageChain;
using testing::TempFile;

// Appends one metadata entry; readers convert between widths of numbers.
struct EntryWriter {
  GgufImage* image;
  const std::string& key;

  void operator()(uint64_t value) const { image->AddU64(key, value); }
  void operator()(int64_t value) const { image->AddI32(key, static_cast<int32_t>(value)); }
  void operator()(double value) const { image->AddF32(key, static_cast<float>(value)); }
  void operator()(bool value) const { image->AddBool(key, value); }
  void operator()(const std::string& value) const { image->AddString(key, value); }
  void operator()(const std::vector<std::string>& values) const { image->AddStrings(key, values); }
  void operator()(const std::vector<double>& values) const {
    image->AddF32s(key, {values.begin(), values.end()});
  }
  void operator()(const std::vector<int64_t>& values) const {
    image->AddI32s(key, {values.begin(), values.end()});
  }
  void operator()(const std::vector<uint64_t>& values) const {
    image->AddU32s(key, {values.begin(), values.end()});
  }
  void operator()(const std::vector<bool>&) const { FAIL() << "array of booleans: " << key; }
};

std::string Widened(const model::TensorInfo& tensor, std::span<const std::byte> file) {
  const auto n_cols = static_cast<size_t>(tensor.n_cols());
  std::string data(static_cast<size_t>(tensor.n_rows()) * n_cols * sizeof(float), '\0');
  std::vector<float> row(n_cols);
  for (size_t i = 0; i < static_cast<size_t>(tensor.n_rows()); ++i) {
    kernels::DequantizeRow(tensor.dtype,
                           file.data() + tensor.offset_bytes + i * RowBytes(tensor.dtype, n_cols),
                           tensor.n_cols(), row.data());
    std::memcpy(data.data() + i * n_cols * sizeof(float), row.data(), n_cols * sizeof(float));
  }
  return data;
}

// The same model with all weights in F32.
std::vector<std::byte> Dequantized(const std::string& path) {
  const auto reader = model::OpenMappedFile(path);
  EXPECT_TRUE(reader.ok()) << path;
  const auto file = model::GgufFile::Parse(**reader);
  EXPECT_TRUE(file.ok()) << path;
  GgufImage image = GgufImage::Of(file->dialect());
  for (const auto& [key, value] : file->metadata()) std::visit(EntryWriter{&image, key}, value);
  for (const model::TensorInfo& tensor : file->tensors()) {
    image.AddTensor(tensor.name, DType::kF32, tensor.shape, Widened(tensor, (*reader)->Mapping()));
  }
  return image.Bytes();
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += (got[i] - wanted[i]) * (got[i] - wanted[i]);
    norm += wanted[i] * wanted[i];
  }
  return std::sqrt(error / norm);
}

class EachQuantisedFile : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Dequantized, EachQuantisedFile,
                         ::testing::Values("arcee-q4_0", "reference/arcee-q8_0",
                                           "reference/llama-q4_k_m", "reference/llama-q5_k_m",
                                           "reference/llama-bf16", "reference/nemotron-f16",
                                           "powerinfer-q4_0"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name.erase(0, name.rfind('/') + 1);
                           name[name.find('-')] = '_';
                           return name;
                         });

// Float weights: only the order of sums may differ. Quantised ones multiply activations rounded to
// 8 bits per block, 0.3 % of their norm in every product.
TEST_P(EachQuantisedFile, GivesTheLogitsOfItsWidenedWeights) {
  const std::string path = testing::TestDataPath(std::string(GetParam()) + ".gguf");
  const TempFile widened(Dequantized(path));
  std::vector<int32_t> tokens(24);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(3 + (i * 53) % 300);
  const auto wanted = StageChain(widened.path(), {}).Logits(SeqId{1}, tokens, 24);
  const auto got = StageChain(path, {}).Logits(SeqId{1}, tokens, 24);
  ASSERT_EQ(got.size(), tokens.size());
  const std::string name = GetParam();
  const bool is_float = name.ends_with("bf16") || name.ends_with("f16");
  const double bound = is_float ? 1e-4 : 2e-2;
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_LE(RelativeError(got[i], wanted[i]), bound) << i;
}

}  // namespace
}  // namespace thermocline::worker
