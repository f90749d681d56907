// Text <-> token ids, as the model file's metadata defines them.
//
// Models: `llama` (SentencePiece BPE by score, bytes as fallback) and `gpt2` (byte-level BPE by
// merge rank, with the pre-tokenizers default, gpt-2, llama-bpe and qwen2).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/gguf.h"

namespace thermocline::model {

enum class TokenType : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct SpecialTokens {
  std::optional<int32_t> bos, eos, eot, eom, unknown, padding;
  bool add_bos = false;
  bool add_eos = false;
  // Every id that ends a generation: eos, eot, eom, and tokens whose text is a known end marker.
  std::vector<int32_t> end_ids;
};

struct EncodeOptions {
  bool add_special = true;    // bos/eos as the model's metadata asks
  bool parse_special = true;  // the text of a control token becomes that token
};

// What a model file says about its tokenizer, as it stands there: MakeTokenizer checks it.
struct TokenizerData {
  std::string model;                // "llama" or "gpt2"
  std::string pre;                  // of gpt2: the pre-tokenizer; "" = the file names none
  std::vector<std::string> tokens;  // the vocabulary; of gpt2 in GPT-2's byte alphabet
  std::vector<float> scores;        // of llama: one per token, merges prefer the larger
  std::vector<int64_t> types;       // TokenType, one per token; empty = the file has none
  std::vector<std::string> merges;  // of gpt2: "left right", applied in this order
  std::optional<int64_t> bos, eos, eot, eom, unknown, padding;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

// The most bytes of one token's text; the longest published ones have a few hundred.
inline constexpr size_t kMaxTokenBytes = 4096;
// Each merge makes a token, and a vocabulary of kMaxVocab has no more; published: 514906.
inline constexpr size_t kMaxMerges = size_t{1} << 22;

// Immutable after construction, so thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // kInvalidArgument names the missing key, the unknown model or pre-tokenizer, or the array whose
  // length is wrong. A file without a tokenizer (`none`) gives kNotFound.
  static Result<std::unique_ptr<Tokenizer>> FromGguf(const GgufFile& file);

  // Never fails: bytes without a token become the unknown token, or are dropped when there is none.
  virtual std::vector<int32_t> Encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;

  // The bytes of one token, which need not be whole UTF-8. Control tokens give "" unless
  // `with_special`. Ids outside the vocabulary give "".
  virtual std::string TokenBytes(int32_t id, bool with_special) const = 0;
  // The bytes of a sequence; SPM's leading space is dropped when the text starts there.
  virtual std::string Decode(std::span<const int32_t> ids, bool with_special) const = 0;

  virtual int n_vocab() const = 0;
  virtual const SpecialTokens& special() const = 0;
  // The token's text in the file, e.g. "<|im_end|>"; empty for ids outside the vocabulary.
  virtual std::string_view TokenText(int32_t id) const = 0;
  virtual TokenType Type(int32_t id) const = 0;
};

// The tokenizer's keys of a file, typed but not yet checked against one another. kNotFound: the
// file has no tokenizer; kInvalidArgument names the key that is missing or has the wrong type.
Result<TokenizerData> ReadTokenizerData(const GgufFile& file);

// kInvalidArgument names the unknown model or pre-tokenizer, the array whose length is wrong, the
// special id that is outside the vocabulary, the token or merge that is malformed.
Result<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerData data);

}  // namespace thermocline::model
