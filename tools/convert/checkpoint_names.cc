#include "tools/convert/checkpoint_names.h"

#include <charconv>
#include <span>

#include "base/str.h"

namespace thermocline::tools {
namespace {

struct NamePair {
  std::string_view checkpoint;
  std::string_view gguf;
};

struct NameTable {
  std::string_view layer_prefix;  // of the layer's number
  std::span<const NamePair> whole;
  std::span<const NamePair> layer;
};

constexpr NamePair kLlamaWhole[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr NamePair kLlamaLayer[] = {
    {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},   {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"},
    {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"}};
constexpr NameTable kLlamaNames = {"model.layers.", kLlamaWhole, kLlamaLayer};

constexpr NamePair kOptWhole[] = {{"decoder.embed_tokens", "token_embd"},
                                  {"decoder.embed_positions", "position_embd"},
                                  {"decoder.final_layer_norm", "output_norm"},
                                  {"lm_head", "output"}};
constexpr NamePair kOptLayer[] = {{"self_attn_layer_norm", "attn_norm"},
                                  {"final_layer_norm", "ffn_norm"},
                                  {"self_attn.q_proj", "attn_q"},
                                  {"self_attn.k_proj", "attn_k"},
                                  {"self_attn.v_proj", "attn_v"},
                                  {"self_attn.out_proj", "attn_output"},
                                  {"fc1", "ffn_up"},
                                  {"fc2", "ffn_down"}};
constexpr NameTable kOptNames = {"decoder.layers.", kOptWhole, kOptLayer};

std::string_view Lookup(std::span<const NamePair> names, std::string_view name) {
  for (const NamePair& pair : names) {
    if (pair.checkpoint == name) return pair.gguf;
  }
  return {};
}

// "3.mlp.up_proj" -> "blk.3.ffn_up".
std::string LayerName(const NameTable& table, std::string_view stem) {
  int layer = 0;
  const auto [end, error] = std::from_chars(stem.data(), stem.data() + stem.size(), layer);
  if (error != std::errc() || end == stem.data() + stem.size() || *end != '.') return "";
  const auto part = Lookup(table.layer, stem.substr(static_cast<size_t>(end - stem.data()) + 1));
  return part.empty() ? "" : Str("blk.", layer, ".", part);
}

}  // namespace

std::string GgufName(const CheckpointLayout& layout, std::string_view name) {
  const bool is_opt = layout.arch == "opt";
  const NameTable& table = is_opt ? kOptNames : kLlamaNames;
  // OPT's are stored with and without the name of their wrapper.
  constexpr std::string_view kWrapper = "model.";
  if (is_opt && name.starts_with(kWrapper)) name.remove_prefix(kWrapper.size());
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return "";
  const std::string_view suffix = name.substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return "";
  std::string_view stem = name.substr(0, dot);
  if (const auto whole = Lookup(table.whole, stem); !whole.empty()) return Str(whole, suffix);
  if (!stem.starts_with(table.layer_prefix)) return "";
  stem.remove_prefix(table.layer_prefix.size());
  const std::string gguf = LayerName(table, stem);
  return gguf.empty() ? "" : Str(gguf, suffix);
}

}  // namespace thermocline::tools
