// config.json of a checkpoint: the model's architecture, sizes and choices.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/gguf_metadata.h"

namespace thermocline::tools {

// How a layout of checkpoints maps to an architecture of GGUF.
struct CheckpointLayout {
  std::string_view class_name;                       // config.json's "architectures"
  std::string_view arch;                             // general.architecture
  std::string_view eps_field;                        // of config.json; "": kDefaultEps
  std::string_view eps_key;                          // of GGUF
  bool interleave_qk;                                // rows of q and k go from halves to neighbours
  float norm_add;                                    // added to norm weights
  double rotary_share;                               // of each head, unless config.json says
  std::string_view activation;                       // the one that the architecture implies
  std::string_view ff_field = "intermediate_size";   // of config.json
  std::string_view activation_field = "hidden_act";  // of config.json
  bool rotates = true;                               // else positions are learned
  bool tied = false;                                 // unless config.json says
};

struct CheckpointConfig {
  const CheckpointLayout* layout = nullptr;
  int64_t n_embd = 0, n_ff = 0, n_layer = 0, n_head = 0, n_head_kv = 0, head_dim = 0;
  int64_t n_rot = 0;  // 0 where positions are learned
  int64_t n_ctx = 0, n_vocab = 0;
  double norm_eps = 0, rope_base = 10000;
  std::string activation;
  bool tied = false;
  std::optional<double> linear_factor;  // of rope scaling
  std::vector<float> rope_divisors;     // of Llama-3 scaling: rope_freqs.weight
  std::vector<std::string> notes;
};

// kInvalidArgument names an unknown architecture, a missing field or a feature that would change
// results if it were ignored.
Result<CheckpointConfig> ReadCheckpointConfig(const nlohmann::json& config);

// The general and architecture keys; not the tokenizer's.
void SetConfigMetadata(const CheckpointConfig& config, const std::string& name,
                       model::GgufMetadata* metadata);

}  // namespace thermocline::tools
