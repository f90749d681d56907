#include "model/sparsity_profile.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/gguf_image.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"

namespace thermocline::model {
namespace {

using testing::GgufImage;
using testing::TempFile;

constexpr char kFingerprint[] = "0123456789abcdef0123456789abcdef";

SparsityProfile SmallProfile() {
  SparsityProfile profile;
  profile.fingerprint = kFingerprint;
  profile.model_name = "tiny";
  profile.source = "a text";
  profile.n_tokens = 100;
  for (int l = 0; l < 2; ++l) {
    LayerActivity layer;
    layer.active_threshold = 0.25f * static_cast<float>(l);
    layer.fired = {100, 3, static_cast<uint64_t>(l)};
    layer.peaks = {1.5f, 2.5f, 0};
    layer.quantiles.assign(kNumQuantiles, 0.5f);
    layer.union_shares = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f};
    layer.input = {-1, 2, 3, 2};
    layer.gate = {-4, 4, 5, 5};
    layer.activation = {0, 16, 8, 4};
    profile.layers.push_back(layer);
  }
  profile.guard = {{{"dense", 10, 0}, {"exact", 10.5, 0.05}}, 50, 0.01};
  return profile;
}

// A path in the temporary directory that nobody uses.
class TempPath {
 public:
  TempPath() : file_({}) { std::filesystem::remove(file_.path()); }
  const std::string& path() const { return file_.path(); }

 private:
  TempFile file_;
};

TEST(SparsityProfile, RoundTrips) {
  const SparsityProfile wanted = SmallProfile();
  const TempPath file;
  ASSERT_TRUE(WriteSparsityProfile(wanted, file.path()).ok());
  const auto reader = OpenMappedFile(file.path());
  const auto got = ReadSparsityProfile(**reader);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->fingerprint, wanted.fingerprint);
  EXPECT_EQ(got->model_name, "tiny");
  EXPECT_EQ(got->source, "a text");
  EXPECT_EQ(got->n_tokens, 100u);
  EXPECT_FALSE(got->n_tokens_is_guess);
  ASSERT_EQ(got->layers.size(), 2u);
  for (size_t l = 0; l < 2; ++l) {
    EXPECT_EQ(got->layers[l].active_threshold, wanted.layers[l].active_threshold);
    EXPECT_EQ(got->layers[l].fired, wanted.layers[l].fired);
    EXPECT_EQ(got->layers[l].peaks, wanted.layers[l].peaks);
    EXPECT_EQ(got->layers[l].quantiles, wanted.layers[l].quantiles);
    EXPECT_EQ(got->layers[l].union_shares, wanted.layers[l].union_shares);
    EXPECT_EQ(got->layers[l].gate.min, -4);
    EXPECT_EQ(got->layers[l].gate.max, 4);
    EXPECT_DOUBLE_EQ(got->layers[l].activation.abs_mean(), 2);
  }
  ASSERT_EQ(got->guard.results.size(), 2u);
  EXPECT_EQ(got->guard.results[1].mode, "exact");
  EXPECT_FLOAT_EQ(static_cast<float>(got->guard.results[1].loss), 0.05f);
  EXPECT_EQ(got->guard.n_tokens, 50u);
}

TEST(SparsityProfile, ImportedCountsHaveNothingElse) {
  SparsityProfile imported = SmallProfile();
  imported.n_tokens_is_guess = true;
  imported.guard = {};
  for (LayerActivity& layer : imported.layers) {
    layer.peaks.clear();
    layer.quantiles.clear();
  }
  const TempPath file;
  ASSERT_TRUE(WriteSparsityProfile(imported, file.path()).ok());
  const auto reader = OpenMappedFile(file.path());
  const auto got = ReadSparsityProfile(**reader);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_TRUE(got->n_tokens_is_guess);
  EXPECT_TRUE(got->layers[0].peaks.empty());
  EXPECT_TRUE(got->guard.results.empty());
}

TEST(SparsityProfile, OfAnotherModelNamesBothFingerprints) {
  const std::string other(32, 'f');
  const Status status = CheckProfileOf(SmallProfile(), other);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "profile of another model: model=" + other + " profile=" + kFingerprint);
  EXPECT_TRUE(CheckProfileOf(SmallProfile(), kFingerprint).ok());
}

TEST(SparsityProfile, UnwritableOnesAreRefused) {
  SparsityProfile profile = SmallProfile();
  profile.layers[1].fired.pop_back();
  EXPECT_EQ(WriteSparsityProfile(profile, "/nowhere/x").code(), StatusCode::kInvalidArgument);
  profile.layers.clear();
  EXPECT_EQ(WriteSparsityProfile(profile, "/nowhere/x").code(), StatusCode::kInvalidArgument);
  profile = SmallProfile();
  profile.n_tokens = 0;
  EXPECT_EQ(WriteSparsityProfile(profile, "/nowhere/x").code(), StatusCode::kInvalidArgument);
}

GgufImage ImageOf(const std::vector<int32_t>& fired) {
  GgufImage image;
  image.AddString("general.architecture", "thermocline.profile");
  image.AddU32("thermocline.profile.version", 1);
  image.AddString("thermocline.profile.model_fingerprint", kFingerprint);
  image.AddU64("thermocline.profile.tokens", 10);
  image.AddBool("thermocline.profile.tokens_is_guess", false);
  image.AddF32s("thermocline.profile.active_thresholds", {0});
  std::string data;
  for (const int32_t count : fired) data += testing::Packed(count);
  image.AddTensor("blk.0.fired", DType::kI32, {static_cast<int64_t>(fired.size())}, data);
  return image;
}

std::string RefusalOf(const GgufImage& image) {
  const std::vector<std::byte> bytes = image.Bytes();
  const auto got = ReadSparsityProfile(*ReadFromMemory(bytes, "p"));
  return got.ok() ? "accepted" : got.status().message();
}

TEST(SparsityProfile, AWellFormedImageIsAccepted) {
  EXPECT_EQ(RefusalOf(ImageOf({0, 10, 3})), "accepted");
}

TEST(SparsityProfile, LyingFilesAreRefusedByName) {
  EXPECT_EQ(RefusalOf(ImageOf({0, 11})),
            "p: profile counts more activations than tokens: layer=0 count=11 tokens=10");
  EXPECT_EQ(RefusalOf(ImageOf({0, -1})),
            "p: profile counts more activations than tokens: layer=0 count=-1 tokens=10");
  GgufImage image = ImageOf({1});
  image.RemoveTensor("blk.0.fired");
  EXPECT_EQ(RefusalOf(image), "p: profile lacks a tensor: blk.0.fired");
  image = ImageOf({1});
  image.Key("thermocline.profile.version").payload = testing::Packed(uint32_t{2});
  EXPECT_EQ(RefusalOf(image), "p: profile of an unsupported version: version=2 supported=1");
  image = ImageOf({1});
  image.Key("general.architecture").payload = testing::PackedString("llama");
  EXPECT_EQ(RefusalOf(image),
            "p: not a profile: general.architecture is \"llama\", not \"thermocline.profile\"");
  image = ImageOf({1});
  image.AddZeros("blk.0.peaks", DType::kF32, {2});
  EXPECT_EQ(RefusalOf(image),
            "p: tensor of a profile has another shape or type: blk.0.peaks type=F32 length=2 "
            "wanted_type=F32 wanted=1");
  image = ImageOf({1});
  image.AddTensor("blk.0.peaks", DType::kF32, {1}, testing::Packed(std::nanf("")));
  EXPECT_NE(RefusalOf(image).find("not a number: blk.0.peaks index=0"), std::string::npos);
}

}  // namespace
}  // namespace thermocline::model
