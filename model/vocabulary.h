// The part of a tokenizer that both models share: the checked tokens, the special ids, and the
// tokens that are found in raw text before anything else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "model/tokenizer.h"

namespace thermocline::model {

// A piece of the input: ordinary text, or a token that was found in it (text is then its text).
struct Fragment {
  static constexpr int32_t kText = -1;
  std::string_view text;
  int32_t token = kText;
};

// Owns the texts and types of the tokens. Immutable after Create, so thread-safe. Movable; the
// views it gives out stay valid when it moves.
class Vocabulary {
 public:
  // What a model assumes where the file says nothing.
  struct Defaults {
    std::optional<int64_t> bos, eos, unknown;  // taken only if inside the vocabulary
    bool add_bos = false;
    bool bytes_by_text = false;  // without types, "<0x0A>" is a byte token
  };
  // Takes tokens, types, ids and flags of `data`. kInvalidArgument as MakeTokenizer says.
  static Result<Vocabulary> Create(TokenizerData* data, const Defaults& defaults);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  bool Contains(int32_t id) const { return id >= 0 && id < size(); }
  // "" and kUnused for ids outside the vocabulary.
  std::string_view Text(int32_t id) const;
  TokenType Type(int32_t id) const;
  const SpecialTokens& special() const { return special_; }

  // Cuts `text` at user-defined tokens and, with `parse_special`, at control and unknown tokens.
  // Longer tokens are searched first, over the whole text; of one length, from left to right. No
  // fragment is empty. Time: text bytes x number of distinct lengths of such tokens.
  std::vector<Fragment> Split(std::string_view text, bool parse_special) const;

  // bos and eos around what `body` appends, as `options` and the file ask.
  std::vector<int32_t> Encode(
      std::string_view text, const EncodeOptions& options,
      const std::function<void(std::span<const Fragment>, std::vector<int32_t>*)>& body) const;

 private:
  // The tokens of one length that are searched in raw text.
  struct Needles {
    std::unordered_map<std::string_view, int32_t> by_text;
    std::vector<bool> first_bytes = std::vector<bool>(256);
  };

  Status TakeTypes(const TokenizerData& data, const Defaults& defaults);
  Status TakeSpecialIds(const TokenizerData& data, const Defaults& defaults);
  void FindEndIds();
  void IndexNeedles();
  void SplitFragment(std::string_view text, size_t length, const Needles& needles,
                     bool parse_special, std::vector<Fragment>* out) const;

  std::vector<std::string> tokens_;
  std::vector<TokenType> types_;
  SpecialTokens special_;
  std::map<size_t, Needles, std::greater<>> needles_;  // by length, longest first
};

// The byte that "<0x0A>" names, or -1.
int ParseByteToken(std::string_view text);

}  // namespace thermocline::model
