#include "tools/inspect/tensor_groups.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace thermocline::tools {
namespace {

model::GgufFile Parse(const std::vector<std::byte>& bytes) {
  const auto reader = model::ReadFromMemory(bytes, "test");
  auto file = model::GgufFile::Parse(*reader);
  EXPECT_THAT(file.status(), testing::IsOk());
  return *std::move(file);
}

TEST(TensorPlace, TakesANameApart) {
  EXPECT_EQ(PlaceOf("blk.12.ffn_up.weight").layer, 12);
  EXPECT_EQ(PlaceOf("blk.12.ffn_up.weight").role, "ffn_up.weight");
  for (const char* whole : {"output.weight", "blk.", "blk.x.y", "blk.3", "blk.3x.y", "blk.-1.y"}) {
    EXPECT_EQ(PlaceOf(whole).layer, -1) << whole;
    EXPECT_EQ(PlaceOf(whole).role, whole);
  }
}

TEST(TensorGroups, AddUpToTheFile) {
  testing::TinyModelSpec spec;
  spec.dialect = testing::GgufDialect::kPowerInfer;
  spec.n_layer = 3;
  spec.dtype = DType::kQ8_0;
  const model::GgufFile file = Parse(testing::TinyModel(spec));
  uint64_t wanted = 0, bytes = 0, layer_bytes = 0;
  for (const model::TensorInfo& tensor : file.tensors()) wanted += tensor.size_bytes;
  for (const TensorGroup& group : GroupTensors(file)) {
    bytes += group.bytes;
    const bool of_layers = group.n_tensors == 3;
    if (of_layers) layer_bytes += group.bytes;
  }
  EXPECT_EQ(bytes, wanted);
  const std::vector<LayerGroup> layers = GroupLayers(file);
  ASSERT_EQ(layers.size(), 1u);  // all alike
  EXPECT_EQ(layers[0].begin, 0);
  EXPECT_EQ(layers[0].end, 3);
  EXPECT_EQ(3 * layers[0].bytes(), layer_bytes);
  EXPECT_GT(layers[0].predictor_bytes, 0u);
  EXPECT_EQ(layers[0].types.Text(), "Q8_0");
}

TEST(LayerGroups, SplitWhereLayersDiffer) {
  testing::GgufImage image;
  const auto add = [&](const std::string& name, int64_t n_cols) {
    image.tensors.push_back({.name = name,
                             .dims = {n_cols, 2},
                             .type_id = 0,
                             .data = std::string(static_cast<size_t>(8 * n_cols), '\0'),
                             .n_dims = {},
                             .offset = {}});
  };
  add("blk.0.ffn_up.weight", 4);
  add("blk.1.ffn_up.weight", 4);
  add("blk.2.ffn_up.weight", 8);
  add("blk.4.ffn_up.weight", 8);  // layer 3 is elsewhere
  const std::vector<LayerGroup> layers = GroupLayers(Parse(image.Bytes()));
  ASSERT_EQ(layers.size(), 3u);
  EXPECT_EQ(layers[0].end, 2);
  EXPECT_EQ(layers[1].begin, 2);
  EXPECT_EQ(layers[1].ffn_bytes, 64u);
  EXPECT_EQ(layers[2].begin, 4);
}

}  // namespace
}  // namespace thermocline::tools
