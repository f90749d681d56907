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

// Immutable after construction, so thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // kInvalidArgument names the missing key, the unknown model or pre-tokenizer, or the array whose
  // length is wrong. A file without a tokenizer (`none`) gives kNotFound.
  static Result<std::unique_ptr<Tokenizer>> FromGguf(const GgufFile& file);

  // Never fails: bytes without a token become the unknown token, or are dropped when there is none.
  virtual std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const = 0;

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

}  // namespace thermocline::model
