// The simplest tokenizer: id = byte, and three control tokens above.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "model/tokenizer.h"

namespace thermocline::testing {

// Immutable, so thread-safe.
class ByteTokenizer final : public model::Tokenizer {
 public:
  static constexpr int32_t kBos = 256, kEos = 257, kImEnd = 258;

  explicit ByteTokenizer(bool add_bos = false) {
    special_.bos = kBos;
    special_.eos = kEos;
    special_.add_bos = add_bos;
    special_.end_ids = {kEos, kImEnd};
  }

  std::vector<int32_t> Encode(std::string_view text,
                              const model::EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special && special_.add_bos) ids.push_back(kBos);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string TokenBytes(int32_t id, bool with_special) const override {
    if (id >= 0 && id < 256) return std::string(1, static_cast<char>(id));
    return with_special ? std::string(TokenText(id)) : std::string();
  }
  std::string Decode(std::span<const int32_t> ids, bool with_special) const override {
    std::string text;
    for (const int32_t id : ids) text += TokenBytes(id, with_special);
    return text;
  }
  int n_vocab() const override { return 259; }
  const model::SpecialTokens& special() const override { return special_; }
  std::string_view TokenText(int32_t id) const override {
    constexpr std::string_view kTexts[] = {"<s>", "</s>", "<|im_end|>"};
    return id >= kBos && id <= kImEnd ? kTexts[id - kBos] : std::string_view();
  }
  model::TokenType Type(int32_t id) const override {
    return id < kBos ? model::TokenType::kByte : model::TokenType::kControl;
  }

 private:
  model::SpecialTokens special_;
};

}  // namespace thermocline::testing
