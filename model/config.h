// What a model is: the numbers and choices that its architecture and metadata fix.
//
// Source of the keys and defaults: GGUF metadata as upstream defines it per architecture.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "model/gguf.h"

namespace thermocline::model {

enum class Architecture : uint8_t { kLlama, kQwen2, kArcee, kNemotron, kBamboo, kOpt };
enum class NormKind : uint8_t { kRms, kLayer };
// Which elements of a head are rotated together: (2i, 2i+1), or (i, i + n_rot/2).
enum class RopePairing : uint8_t { kAdjacent, kHalves };
enum class Activation : uint8_t { kSilu, kRelu, kReluSquared };

std::string_view ActivationName(Activation activation);

struct RopeConfig {
  RopePairing pairing = RopePairing::kAdjacent;
  int n_rot = 0;  // leading elements of each head that are rotated; the rest pass
  float freq_base = 10000.0f;
  float freq_scale = 1.0f;  // 1 / linear scaling factor
};

struct ModelConfig {
  Architecture arch = Architecture::kLlama;
  std::string arch_name;
  std::string name;
  GgufDialect dialect = GgufDialect::kGguf;

  int n_layer = 0;
  int n_embd = 0;
  int n_head = 0;
  int n_head_kv = 0;
  int head_dim = 0;
  int n_ff = 0;
  int n_vocab = 0;
  int n_ctx_train = 0;

  NormKind norm = NormKind::kRms;
  float norm_eps = 1e-5f;
  Activation activation = Activation::kSilu;
  bool ffn_gated = true;
  bool ffn_up_activated = false;  // dReLU: act(gate) * act(up)
  bool tied_embeddings = false;
  float attention_scale = 0;  // 1/sqrt(head_dim) unless the file says otherwise
  RopeConfig rope;            // n_rot is 0 where positions are learned

  // Learned positions: row position_offset + p of a table of n_position_rows is added to the token
  // at position p. 0 rows: the model has none.
  int n_position_rows = 0;
  int position_offset = 0;

  bool has_learned_positions() const { return n_position_rows > 0; }
  // ReLU-family activations give exact zeros, so that FfnMode::kExact may skip rows.
  bool relu_family() const { return activation != Activation::kSilu; }
  int64_t n_embd_q() const { return int64_t{n_head} * head_dim; }
  int64_t n_embd_kv() const { return int64_t{n_head_kv} * head_dim; }

  // kInvalidArgument names an unknown architecture, a missing or impossible key.
  static Result<ModelConfig> FromGguf(const GgufFile& file);
};

// A context of `n_ctx` positions. Rotations reach as far as anybody counts; a table of learned
// positions ends: kInvalidArgument beyond it.
Status CheckContext(const ModelConfig& config, int64_t n_ctx);

// Upper bounds that a header must respect before anything is sized by it.
inline constexpr int kMaxLayers = 1024;      // the deepest published models have ~130
inline constexpr int kMaxEmbd = 1 << 17;     // widest published: 18432
inline constexpr int kMaxFf = 1 << 20;       // widest published: 114688
inline constexpr int kMaxVocab = 1 << 22;    // largest published: 262144
inline constexpr int kMaxHeads = 1 << 12;    // most published: 128
inline constexpr int kMaxHeadDim = 1 << 12;  // widest published: 512
inline constexpr int kMaxContext = 1 << 26;  // longest published: 10 million tokens

}  // namespace thermocline::model
