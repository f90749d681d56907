// Byte-level BPE: text is cut into words, the bytes of each word are merged in the order the
// training found the merges.
//
// Source: Sennrich et al., ACL 2016, section 3.2 (the merges); Radford et al. 2019, section 2.2 and
// encoder.py (bytes, and the alphabet in which files spell them).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "model/pre_tokenizer.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

namespace thermocline::model {

// Immutable after Create, so thread-safe.
//
// Text need not be UTF-8: each byte that belongs to no valid sequence becomes its byte token, and
// words end around it. A byte without a token becomes the unknown token, or is dropped when there
// is none. Merging never makes a control, unknown or unused token.
class BpeTokenizer final : public Tokenizer {
 public:
  // kInvalidArgument as MakeTokenizer says.
  static Result<std::unique_ptr<Tokenizer>> Create(TokenizerData data);

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::string TokenBytes(int32_t id, bool with_special) const override;
  std::string Decode(std::span<const int32_t> ids, bool with_special) const override;

  int n_vocab() const override { return vocabulary_.size(); }
  const SpecialTokens& special() const override { return vocabulary_.special(); }
  std::string_view TokenText(int32_t id) const override { return vocabulary_.Text(id); }
  TokenType Type(int32_t id) const override { return vocabulary_.Type(id); }

 private:
  static constexpr int32_t kNoToken = -1;
  struct Scratch;
  struct Merge {
    int32_t rank;
    int32_t token;  // what the two become
  };

  BpeTokenizer(Vocabulary vocabulary, PreTokenizer pre_tokenizer);
  void IndexTokens();
  Status IndexMerges(const std::vector<std::string>& merges);
  void EncodeFragment(std::string_view text, Scratch* scratch, std::vector<int32_t>* ids) const;
  void EncodeWord(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;
  void LoadSymbols(std::string_view word, Scratch* scratch) const;
  // How the symbol and its right neighbour merge; nullptr when they do not.
  const Merge* FindMerge(int left, const Scratch& scratch) const;
  void Propose(int left, Scratch* scratch) const;
  void AppendByte(char byte, std::vector<int32_t>* ids) const;

  Vocabulary vocabulary_;
  PreTokenizer pre_tokenizer_;
  std::vector<std::string> bytes_;  // of each token; "" for tokens that are not spelt in bytes
  std::unordered_map<std::string_view, int32_t> words_;  // bytes_ -> token, for ignore_merges
  std::array<int32_t, 256> byte_tokens_;
  std::unordered_map<uint64_t, Merge> merges_;  // (left token << 32 | right token) -> merge
};

}  // namespace thermocline::model
