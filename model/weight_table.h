// Which tensors each architecture has, and their shapes: the table that WeightIndex reads.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "model/config.h"
#include "model/weights.h"

namespace thermocline::model {

// A length that a tensor's shape is written with.
enum class Dim : uint8_t {
  kNone,       // the tensor has one dimension only
  kVocab,      // n_vocab
  kPositions,  // n_position_rows
  kEmbd,       // n_embd
  kQ,          // n_head * head_dim
  kKv,         // n_head_kv * head_dim
  kFf,         // n_ff
  kRopePairs,  // n_rot / 2
  kPredictor,  // hidden size of a predictor, free per layer
};
std::string_view DimName(Dim dim);

// A role's tensor, the same in every architecture: w[rows, cols], or v[cols] when rows is kNone.
struct WeightSpec {
  WeightRole role;
  std::string_view name;  // without "blk.N."
  Dim rows;
  Dim cols;
  bool per_layer;
  bool f32_only;                // norms, biases and rope divisors: every writer keeps them F32
  std::string_view alias = {};  // another name that files give it
};
const WeightSpec& SpecOf(WeightRole role);

struct RoleUse {
  WeightRole role;
  bool required;
};
// The tensors that files of the model's architecture and dialect have.
std::span<const RoleUse> RolesOf(const ModelConfig& config);

}  // namespace thermocline::model
