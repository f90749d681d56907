#include "model/vocabulary.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "model/config.h"

namespace thermocline::model {
namespace {

// Texts by which published chat models end a turn or a document, whatever their metadata says.
constexpr std::array<std::string_view, 10> kEndMarkers = {
    "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>",
    "<|end|>",    "</s>",       "<|eom_id|>",      "<|return|>",    "<EOT>"};

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

Status CheckTokens(const std::vector<std::string>& tokens) {
  if (tokens.empty()) return InvalidArgument("tokenizer.ggml.tokens is empty");
  if (tokens.size() > static_cast<size_t>(kMaxVocab)) {
    return InvalidArgument(Str("too many tokens in tokenizer.ggml.tokens:",
                               Kv("count", tokens.size()), Kv("max", kMaxVocab)));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].size() <= kMaxTokenBytes) continue;
    return InvalidArgument(Str("token text too long:", Kv("token", i),
                               Kv("bytes", tokens[i].size()), Kv("max", kMaxTokenBytes)));
  }
  return OkStatus();
}

}  // namespace

int ParseByteToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = HexDigit(text[3]);
  const int low = HexDigit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Result<Vocabulary> Vocabulary::Create(TokenizerData* data, const Defaults& defaults) {
  TC_RETURN_IF_ERROR(CheckTokens(data->tokens));
  Vocabulary vocabulary;
  vocabulary.tokens_ = std::move(data->tokens);
  TC_RETURN_IF_ERROR(vocabulary.TakeSpecialIds(*data, defaults));
  TC_RETURN_IF_ERROR(vocabulary.TakeTypes(*data, defaults));
  vocabulary.FindEndIds();
  vocabulary.IndexNeedles();
  return vocabulary;
}

Status Vocabulary::TakeSpecialIds(const TokenizerData& data, const Defaults& defaults) {
  Status status;
  const auto take = [&](std::string_view name, std::optional<int64_t> id,
                        std::optional<int64_t> fallback = {}) -> std::optional<int32_t> {
    if (!id) {
      if (fallback && *fallback < size()) return static_cast<int32_t>(*fallback);
      return std::nullopt;
    }
    if (*id >= 0 && *id < size()) return static_cast<int32_t>(*id);
    if (status.ok()) {
      status = InvalidArgument(Str("special token outside the vocabulary: tokenizer.ggml.", name,
                                   "_token_id", Kv("id", *id), Kv("n_vocab", size())));
    }
    return std::nullopt;
  };
  special_.bos = take("bos", data.bos, defaults.bos);
  special_.eos = take("eos", data.eos, defaults.eos);
  special_.eot = take("eot", data.eot);
  special_.eom = take("eom", data.eom);
  special_.unknown = take("unknown", data.unknown, defaults.unknown);
  special_.padding = take("padding", data.padding);
  TC_RETURN_IF_ERROR(status);

  special_.add_bos = data.add_bos.value_or(defaults.add_bos);
  special_.add_eos = data.add_eos.value_or(false);
  if (special_.add_bos && !special_.bos) {
    LogWarn("model", "no bos token to add: tokenizer.ggml.bos_token_id is absent");
    special_.add_bos = false;
  }
  if (special_.add_eos && !special_.eos) {
    LogWarn("model", "no eos token to add: tokenizer.ggml.eos_token_id is absent");
    special_.add_eos = false;
  }
  return OkStatus();
}

Status Vocabulary::TakeTypes(const TokenizerData& data, const Defaults& defaults) {
  types_.assign(tokens_.size(), TokenType::kNormal);
  if (data.types.empty()) {
    for (size_t i = 0; defaults.bytes_by_text && i < tokens_.size(); ++i) {
      if (ParseByteToken(tokens_[i]) >= 0) types_[i] = TokenType::kByte;
    }
    for (const auto& id : {special_.bos, special_.eos, special_.eot, special_.eom}) {
      if (id) types_[*id] = TokenType::kControl;
    }
    if (special_.unknown) types_[*special_.unknown] = TokenType::kUnknown;
    return OkStatus();
  }
  if (data.types.size() != tokens_.size()) {
    return InvalidArgument(Str("tokenizer.ggml.token_type does not match tokenizer.ggml.tokens:",
                               Kv("types", data.types.size()), Kv("tokens", tokens_.size())));
  }
  for (size_t i = 0; i < types_.size(); ++i) {
    const int64_t type = data.types[i];
    // 0 is "undefined" upstream; such tokens are ordinary ones.
    if (type < 0 || type > static_cast<int64_t>(TokenType::kByte)) {
      return InvalidArgument(Str("unknown token type:", Kv("token", i), Kv("type", type)));
    }
    if (type != 0) types_[i] = static_cast<TokenType>(type);
  }
  return OkStatus();
}

void Vocabulary::FindEndIds() {
  std::vector<int32_t>& ids = special_.end_ids;
  for (const auto& id : {special_.eos, special_.eot, special_.eom}) {
    if (id) ids.push_back(*id);
  }
  for (int32_t id = 0; id < size(); ++id) {
    // Some converters mark end markers as user-defined; ordinary text never counts.
    if (types_[id] != TokenType::kControl && types_[id] != TokenType::kUserDefined) continue;
    if (std::find(kEndMarkers.begin(), kEndMarkers.end(), tokens_[id]) != kEndMarkers.end()) {
      ids.push_back(id);
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

void Vocabulary::IndexNeedles() {
  for (int32_t id = 0; id < size(); ++id) {
    const TokenType type = types_[id];
    const bool searched = type == TokenType::kUserDefined || type == TokenType::kControl ||
                          type == TokenType::kUnknown;
    const std::string& text = tokens_[id];
    if (!searched || text.empty()) continue;
    Needles& needles = needles_[text.size()];
    needles.by_text.try_emplace(text, id);  // of duplicates the first wins
    needles.first_bytes[static_cast<uint8_t>(text[0])] = true;
  }
}

std::string_view Vocabulary::Text(int32_t id) const {
  return Contains(id) ? std::string_view(tokens_[id]) : std::string_view();
}

TokenType Vocabulary::Type(int32_t id) const {
  return Contains(id) ? types_[id] : TokenType::kUnused;
}

void Vocabulary::SplitFragment(std::string_view text, size_t length, const Needles& needles,
                               bool parse_special, std::vector<Fragment>* out) const {
  size_t begin = 0;  // of the text not yet given out
  for (size_t at = 0; at + length <= text.size();) {
    const auto found = needles.first_bytes[static_cast<uint8_t>(text[at])]
                           ? needles.by_text.find(text.substr(at, length))
                           : needles.by_text.end();
    if (found == needles.by_text.end() ||
        (!parse_special && types_[found->second] != TokenType::kUserDefined)) {
      ++at;
      continue;
    }
    if (at > begin) out->push_back({text.substr(begin, at - begin)});
    out->push_back({text.substr(at, length), found->second});
    at += length;
    begin = at;
  }
  if (begin < text.size()) out->push_back({text.substr(begin)});
}

std::vector<Fragment> Vocabulary::Split(std::string_view text, bool parse_special) const {
  std::vector<Fragment> fragments;
  if (!text.empty()) fragments.push_back({text});
  std::vector<Fragment> next;
  for (const auto& [length, needles] : needles_) {
    if (length > text.size()) continue;
    next.clear();
    for (const Fragment& fragment : fragments) {
      if (fragment.token != Fragment::kText) {
        next.push_back(fragment);
      } else {
        SplitFragment(fragment.text, length, needles, parse_special, &next);
      }
    }
    fragments.swap(next);
  }
  return fragments;
}

std::vector<int32_t> Vocabulary::Encode(
    std::string_view text, const EncodeOptions& options,
    const std::function<void(std::span<const Fragment>, std::vector<int32_t>*)>& body) const {
  std::vector<int32_t> ids;
  if (options.add_special && special_.add_bos) ids.push_back(*special_.bos);
  body(Split(text, options.parse_special), &ids);
  if (options.add_special && special_.add_eos) ids.push_back(*special_.eos);
  return ids;
}

}  // namespace thermocline::model
