// Cuts text into the words that byte-level BPE merges within, by the regular expressions that the
// model was trained with.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline::model {

// Immutable after Create, so thread-safe: each call has match data of its own.
class PreTokenizer {
 public:
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  // kInvalidArgument names an unknown pre-tokenizer and the known ones: default, gpt-2, llama-bpe
  // and qwen2, with the other names under which files carry the same expressions.
  static Result<PreTokenizer> Create(std::string_view name);

  // A word that is in the vocabulary becomes that token, whatever the merges would make of it.
  bool ignore_merges() const { return ignore_merges_; }
  // Whether such models start with bos where the file does not say.
  bool add_bos() const { return add_bos_; }

  // The words of `text` in order; together they are `text`, and none is empty. `text` must be valid
  // UTF-8. Text on which the expressions exceed their match limit, or for which there is no memory,
  // stays one word.
  std::vector<std::string_view> Split(std::string_view text) const;

 private:
  struct Regex;
  PreTokenizer();

  std::vector<Regex> passes_;  // each cuts the words that the one before it made
  bool ignore_merges_ = false;
  bool add_bos_ = false;
};

}  // namespace thermocline::model
