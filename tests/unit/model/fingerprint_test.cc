#include "model/fingerprint.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_model.h"

namespace thermocline::model {
namespace {

using testing::GgufImage;
using testing::TinyModelImage;

std::string FingerprintOfBytes(std::span<const std::byte> bytes) {
  const auto reader = ReadFromMemory(bytes, "image");
  const auto file = GgufFile::Parse(*reader);
  EXPECT_TRUE(file.ok()) << file.status();
  const auto fingerprint = FingerprintOf(*reader, *file);
  EXPECT_TRUE(fingerprint.ok()) << fingerprint.status();
  return *fingerprint;
}

std::string FingerprintOfImage(const GgufImage& image) { return FingerprintOfBytes(image.Bytes()); }

// Counts what is read beyond the header.
class CountingReader final : public RangeReader {
 public:
  explicit CountingReader(std::span<const std::byte> bytes)
      : bytes_(ReadFromMemory(bytes, "image")) {}
  uint64_t size_bytes() const override { return bytes_->size_bytes(); }
  const std::string& name() const override { return bytes_->name(); }
  Status Read(uint64_t offset_bytes, std::span<std::byte> out) const override {
    n_read_ += out.size();
    return bytes_->Read(offset_bytes, out);
  }
  uint64_t n_read() const { return n_read_; }

 private:
  const std::unique_ptr<RangeReader> bytes_;
  mutable uint64_t n_read_ = 0;
};

TEST(Fingerprint, EqualFilesHaveEqualOnes) {
  EXPECT_EQ(FingerprintOfImage(TinyModelImage({})), FingerprintOfImage(TinyModelImage({})));
}

TEST(Fingerprint, TheHeaderAndTheSizeCount) {
  GgufImage image = TinyModelImage({});
  const std::string before = FingerprintOfImage(image);
  image.AddString("general.note", "x");
  EXPECT_NE(FingerprintOfImage(image), before);
  auto longer = TinyModelImage({}).Bytes();
  longer.resize(longer.size() + 32);
  EXPECT_NE(FingerprintOfBytes(longer), before);
}

TEST(Fingerprint, AnyTensorsDataCounts) {
  const std::string before = FingerprintOfImage(TinyModelImage({}));
  const size_t n_tensors = TinyModelImage({}).tensors.size();
  for (size_t i = 0; i < n_tensors; ++i) {
    for (const bool at_end : {false, true}) {
      GgufImage image = TinyModelImage({});
      std::string& data = image.tensors[i].data;
      data[at_end ? data.size() - 1 : 0] ^= 1;
      EXPECT_NE(FingerprintOfImage(image), before) << image.tensors[i].name;
    }
  }
}

TEST(Fingerprint, TheMiddleOfALargeTensorCounts) {
  GgufImage image = TinyModelImage({});
  const std::string before = FingerprintOfImage(image);
  std::string& data = image.Tensor("token_embd.weight").data;
  ASSERT_GT(data.size(), 1000u);
  for (size_t i = 0; i < data.size(); ++i) {
    if (i > 500 && i + 500 < data.size()) data[i] ^= 1;
  }
  EXPECT_NE(FingerprintOfImage(image), before);
}

TEST(Fingerprint, LittleOfTheDataIsRead) {
  testing::TinyModelSpec spec;
  spec.n_embd = 512;
  spec.n_ff = 1024;
  const auto bytes = testing::TinyModel(spec);
  const CountingReader reader(bytes);
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "image"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(FingerprintOf(reader, *file).ok());
  EXPECT_GT(reader.n_read(), file->header_bytes());
  EXPECT_LT(static_cast<double>(reader.n_read() - file->header_bytes()),
            0.02 * static_cast<double>(bytes.size()));
}

}  // namespace
}  // namespace thermocline::model
