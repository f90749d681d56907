// The tensors of a file, added up by what they are and by layer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "model/gguf.h"

namespace thermocline::tools {

// A tensor's name apart: "blk.3.ffn_up.weight" is layer 3, role "ffn_up.weight".
struct TensorPlace {
  int layer = -1;  // -1: of the whole model
  std::string_view role;
};
TensorPlace PlaceOf(std::string_view tensor_name);

// "F16", or "Q4_K Q6_K" in the order they first occur.
struct TypeList {
  std::vector<DType> types;
  void Add(DType type);
  std::string Text() const;
};

// All tensors of one role.
struct TensorGroup {
  std::string role;
  int n_tensors = 0;
  TypeList types;
  uint64_t n_params = 0;
  uint64_t bytes = 0;
};
// In the order in which roles first occur in the file.
std::vector<TensorGroup> GroupTensors(const model::GgufFile& file);

// Neighbouring layers whose tensors are alike.
struct LayerGroup {
  int begin = 0, end = 0;        // layers [begin, end)
  TypeList types;                // of matrices
  uint64_t attention_bytes = 0;  // of each layer
  uint64_t ffn_bytes = 0;
  uint64_t predictor_bytes = 0;
  uint64_t other_bytes = 0;

  uint64_t bytes() const { return attention_bytes + ffn_bytes + predictor_bytes + other_bytes; }
};
std::vector<LayerGroup> GroupLayers(const model::GgufFile& file);

}  // namespace thermocline::tools
