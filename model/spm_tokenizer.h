// SentencePiece's BPE: characters are merged to ever longer pieces of the vocabulary, best score
// first; what no piece covers becomes bytes.
//
// Source: the algorithm of SentencePiece (Kudo and Richardson, EMNLP 2018, section 3.1) with the
// conventions of llama.cpp for text around special tokens.
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
#include "model/tokenizer.h"
#include "model/vocabulary.h"

namespace thermocline::model {

// Immutable after Create, so thread-safe.
//
// Spaces are U+2581 inside. With add_space_prefix (the default) one space is put before the first
// fragment of ordinary text and before each one that follows a special or user-defined token, as
// llama.cpp does. Control, unknown, unused and byte tokens are never made from ordinary text by
// their spelling.
class SpmTokenizer final : public Tokenizer {
 public:
  // kInvalidArgument as MakeTokenizer says.
  static Result<std::unique_ptr<Tokenizer>> Create(TokenizerData data);

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::string TokenBytes(int32_t id, bool with_special) const override;
  // Drops one space from the start of what the ids spell when add_space_prefix put it there.
  std::string Decode(std::span<const int32_t> ids, bool with_special) const override;

  int n_vocab() const override { return vocabulary_.size(); }
  const SpecialTokens& special() const override { return vocabulary_.special(); }
  std::string_view TokenText(int32_t id) const override { return vocabulary_.Text(id); }
  TokenType Type(int32_t id) const override { return vocabulary_.Type(id); }

 private:
  static constexpr int32_t kNoToken = -1;

  explicit SpmTokenizer(Vocabulary vocabulary);
  void IndexPieces();
  int32_t FindPiece(std::string_view text) const;
  // Appends the ids of one fragment whose spaces are escaped already.
  void EncodeEscaped(std::string_view text, std::vector<int32_t>* ids) const;
  void AppendBytes(std::string_view symbol, std::vector<int32_t>* ids) const;

  Vocabulary vocabulary_;
  std::vector<float> scores_;
  bool add_space_prefix_ = true;
  std::unordered_map<std::string_view, int32_t> pieces_;  // keys lie in vocabulary_
  size_t max_piece_bytes_ = 0;
  std::array<int32_t, 256> byte_tokens_;
};

}  // namespace thermocline::model
