// Neurons in heat order: the same sums in another order, whatever the mode.
#include "model/neuron_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "model/fingerprint.h"
#include "model/gguf.h"
#include "tests/support/sparsity_image.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/assignment.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::FfnModes;
using testing::ChainOptions;
using ::testing::ElementsAre;
using testing::GgufImage;
using ::testing::HasSubstr;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModelSpec;

using Logits = std::vector<std::vector<float>>;

const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3, 3, 200, 61, 7};

// A profile file beside a model's, removed with this.
class ProfileBeside {
 public:
  ProfileBeside(const std::string& model_path, const model::SparsityProfile& profile)
      : path_(model_path + ".profile.gguf") {
    EXPECT_TRUE(model::WriteSparsityProfile(profile, path_).ok());
  }
  ~ProfileBeside() { std::filesystem::remove(path_); }

 private:
  std::string path_;
};

model::SparsityProfile RandomProfile(const GgufImage& image) {
  const auto bytes = image.Bytes();
  const auto reader = model::ReadFromMemory(bytes, "model");
  const auto file = model::GgufFile::Parse(*reader);
  const auto config = model::ModelConfig::FromGguf(*file);
  model::SparsityProfile profile;
  profile.fingerprint = *model::FingerprintOf(*reader, *file);
  profile.n_tokens = 1000;
  std::mt19937 random(3);
  for (int layer = 0; layer < config->n_layer; ++layer) {
    model::LayerActivity& activity = profile.layers.emplace_back();
    for (int i = 0; i < config->n_ff; ++i) activity.fired.push_back(random() % 1000);
  }
  return profile;
}

Logits LogitsOf(const TempFile& file, FfnModes modes, const std::string& sparsity = "") {
  ChainOptions options;
  options.ffn = {modes, true};
  options.sparsity_path = sparsity;
  return StageChain(file.path(), options).Logits(SeqId{1}, kTokens, 64);
}

double Distance(const Logits& a, const Logits& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) {
      most = std::max(most, std::abs(static_cast<double>(a[i][j]) - b[i][j]));
    }
  }
  return most;
}

TinyModelSpec Spec(const char* arch, DType dtype) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  if (spec.arch == "llama") spec.activation = "relu";
  return spec;
}

TEST(NeuronOrder, TheMostActiveComeFirst) {
  model::SparsityProfile profile;
  profile.layers.resize(1);
  profile.layers[0].fired = {3, 9, 0, 9, 5};
  const model::NeuronOrder order = model::HeatOrder(profile);
  EXPECT_THAT(order.layers[0], ElementsAre(1, 3, 4, 0, 2));
  EXPECT_THAT(model::PlacesOf(order.Of(0)), ElementsAre(3, 0, 4, 1, 2));
  EXPECT_TRUE(model::NeuronOrder().Of(7).empty());
}

TEST(NeuronOrder, ChangesNothingButTheOrderOfSums) {
  for (const char* arch : {"llama", "arcee", "nemotron", "opt"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      const GgufImage image = testing::TinyModelImage(Spec(arch, dtype));
      const TempFile file(image.Bytes());
      const Logits before = LogitsOf(file, FfnMode::kDense);
      const ProfileBeside profile(file.path(), RandomProfile(image));
      const Logits dense = LogitsOf(file, FfnMode::kDense);
      EXPECT_FALSE(dense == before) << arch << ": the profile was not used";
      // Rows of Q8_0 round activations, which other sums shift a little: by a step of 1/127 here
      // and there.
      EXPECT_LT(Distance(dense, before), dtype == DType::kQ8_0 ? 0.3 : 1e-3) << arch;
      EXPECT_TRUE(LogitsOf(file, FfnMode::kExact) == dense) << arch << " " << DTypeName(dtype);
    }
  }
}

TEST(NeuronOrder, PredictorsChooseTheSameNeurons) {
  const GgufImage image = testing::TinyModelImage(Spec("llama", DType::kF32));
  const TempFile file(image.Bytes());
  const model::SparsityProfile profile = RandomProfile(image);
  const auto config = OpenModel(file.path());
  ASSERT_TRUE(config.ok());
  testing::SparsitySpec spec;
  spec.kind = "linear";
  spec.input = "ffn_norm";
  spec.predictor_threshold = 1e-30f;
  spec.fingerprint = profile.fingerprint;
  GgufImage sparsity = testing::SparsityImage(spec, config->config);
  testing::PlantExactPredictors(image, config->config, &sparsity);
  const TempFile sparsity_file(sparsity.Bytes());
  const ProfileBeside beside(file.path(), profile);
  EXPECT_TRUE(LogitsOf(file, FfnMode::kPredicted, sparsity_file.path()) ==
              LogitsOf(file, FfnMode::kDense));
}

TEST(NeuronOrder, AProfileOfAnotherModelIsRefused) {
  const GgufImage image = testing::TinyModelImage(Spec("arcee", DType::kF32));
  const TempFile file(image.Bytes());
  model::SparsityProfile profile = RandomProfile(image);
  profile.fingerprint[0] = profile.fingerprint[0] == 'a' ? 'b' : 'a';
  const ProfileBeside beside(file.path(), profile);
  const auto refused = OpenModel(file.path());
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.status().message(), HasSubstr(file.path() + ".profile.gguf"));
  EXPECT_THAT(refused.status().message(), HasSubstr(profile.fingerprint));
}

}  // namespace
}  // namespace thermocline::worker
