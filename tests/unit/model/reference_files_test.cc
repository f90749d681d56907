// Files that other programs wrote: the committed ones, and a folder of them where there is one.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/gguf.h"
#include "model/graph.h"
#include "model/weights.h"
#include "tests/support/test_paths.h"

namespace thermocline::model {
namespace {

struct Loaded {
  GgufFile file;
  ModelConfig config;
  WeightIndex weights;
};

Result<Loaded> Load(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const auto reader, OpenMappedFile(path));
  Loaded loaded;
  TC_ASSIGN_OR_RETURN(loaded.file, GgufFile::Parse(*reader));
  TC_ASSIGN_OR_RETURN(loaded.config, ModelConfig::FromGguf(loaded.file));
  TC_ASSIGN_OR_RETURN(loaded.weights, WeightIndex::Build(loaded.config, loaded.file));
  return loaded;
}

TEST(CommittedFiles, ArceeQ4) {
  const auto loaded = Load(testing::TestDataPath("arcee-q4_0.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.arch, Architecture::kArcee);
  EXPECT_EQ(loaded->config.n_layer, 2);
  EXPECT_EQ(loaded->config.n_embd, 256);
  EXPECT_EQ(loaded->config.n_ff, 512);
  EXPECT_EQ(loaded->config.n_vocab, 320);
  EXPECT_EQ(loaded->weights.Find(WeightRole::kAttnQ, 0)->dtype, DType::kQ4_0);
  EXPECT_EQ(loaded->weights.Find(WeightRole::kOutput)->dtype, DType::kQ6_K);
  EXPECT_EQ(loaded->weights.Find(WeightRole::kAttnNorm, 0)->dtype, DType::kF32);
}

TEST(CommittedFiles, PowerInferQ4) {
  const auto loaded = Load(testing::TestDataPath("powerinfer-q4_0.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.dialect, GgufDialect::kPowerInfer);
  EXPECT_EQ(loaded->config.activation, Activation::kRelu);
  EXPECT_EQ(*loaded->file.GetFloat("powerinfer.sparse_threshold"), 0.0);
  EXPECT_EQ(loaded->weights.Find(WeightRole::kFfnDownT, 1)->n_rows(), 128);
  EXPECT_EQ(loaded->weights.Find(WeightRole::kPredictorFc1, 1)->n_rows(), 32);
}

std::vector<std::string> ReferenceFiles() {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(TC_REFERENCE_DIR, error)) {
    if (entry.path().extension() == ".gguf") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(ReferenceFiles, AllLoad) {
  const auto paths = ReferenceFiles();
  if (paths.empty()) GTEST_SKIP() << "no reference files in " TC_REFERENCE_DIR;
  for (const std::string& path : paths) {
    const auto loaded = Load(path);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(path.substr(path.rfind('/') + 1).rfind(loaded->config.arch_name, 0), 0u) << path;
    EXPECT_EQ(loaded->weights.all().size(), loaded->file.tensors().size()) << path;
    // Weights fill the file but for the header and the padding.
    const ByteRange last = loaded->weights.RangesOf({0, loaded->config.n_layer, true, true}).back();
    EXPECT_LE(std::filesystem::file_size(path) - last.end, 31u) << path;
    EXPECT_FALSE(BuildLayerGraph(loaded->config, loaded->weights, 0, {}).ops.empty()) << path;
  }
}

}  // namespace
}  // namespace thermocline::model
