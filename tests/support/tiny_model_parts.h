// A tiny model's configuration and weight index, for tests that need no weights.
#pragma once

#include <gtest/gtest.h>

#include "model/config.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "model/weights.h"
#include "tests/support/tiny_model.h"

namespace thermocline::testing {

struct TinyModelParts {
  model::ModelConfig config;
  model::WeightIndex weights;
};

inline TinyModelParts MakeTinyModelParts(const TinyModelSpec& spec) {
  const std::vector<std::byte> bytes = TinyModel(spec);
  const auto file = model::GgufFile::Parse(*model::ReadFromMemory(bytes, "tiny"));
  EXPECT_TRUE(file.ok()) << file.status();
  const auto config = model::ModelConfig::FromGguf(*file);
  EXPECT_TRUE(config.ok()) << config.status();
  const auto weights = model::WeightIndex::Build(*config, *file);
  EXPECT_TRUE(weights.ok()) << weights.status();
  return {*config, *weights};
}

}  // namespace thermocline::testing
