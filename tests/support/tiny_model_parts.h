// A tiny model's configuration and weight index, for tests that need no weights.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "model/weights.h"
#include "tests/support/gguf_image.h"
#include "tests/support/tiny_model.h"

namespace thermocline::testing {

struct TinyModelParts {
  model::ModelConfig config;
  model::WeightIndex weights;
};

inline TinyModelParts TinyModelPartsOf(const std::vector<std::byte>& bytes) {
  const auto file = model::GgufFile::Parse(*model::ReadFromMemory(bytes, "tiny"));
  EXPECT_TRUE(file.ok()) << file.status();
  const auto config = model::ModelConfig::FromGguf(*file);
  EXPECT_TRUE(config.ok()) << config.status();
  const auto weights = model::WeightIndex::Build(*config, *file);
  EXPECT_TRUE(weights.ok()) << weights.status();
  return {*config, *weights};
}

inline TinyModelParts MakeTinyModelParts(const TinyModelSpec& spec) {
  return TinyModelPartsOf(TinyModel(spec));
}

// Of `ffn_dtypes`, by layer, the FFN's matrices in these layers.
inline TinyModelParts MakeMixedModelParts(TinyModelSpec spec,
                                          const std::map<int, DType>& ffn_dtypes) {
  GgufImage image = TinyModelImage(spec);
  for (const auto& [layer, dtype] : ffn_dtypes) {
    spec.dtype = dtype;
    const std::string block = "blk." + std::to_string(layer) + ".ffn_";
    for (const GgufTensor& tensor : TinyModelImage(spec).tensors) {
      if (tensor.name.starts_with(block) && tensor.dims.size() > 1) {
        image.Tensor(tensor.name) = tensor;
      }
    }
  }
  return TinyModelPartsOf(image.Bytes());
}

}  // namespace thermocline::testing
