#include "tests/support/tiny_tokenizers.h"

#include <cstdio>

#include "model/unicode.h"

namespace thermocline::testing {
namespace {

using model::TokenizerData;
using model::TokenType;

void Add(TokenizerData* data, const std::string& text, TokenType type, float score = 0) {
  data->tokens.push_back(text);
  data->types.push_back(static_cast<int64_t>(type));
  data->scores.push_back(score);
}

}  // namespace

TokenizerData TinySpm() {
  TokenizerData data;
  data.model = "llama";
  Add(&data, "<unk>", TokenType::kUnknown);
  Add(&data, "<s>", TokenType::kControl);
  Add(&data, "</s>", TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    Add(&data, text, TokenType::kByte);
  }
  Add(&data, "<sep>", TokenType::kUserDefined);
  Add(&data, "<|im_end|>", TokenType::kControl);
  float score = 0;
  for (const char* piece :
       {"▁",  "h",  "e",  "l",   "o",  "w",     "r",      "d",    "ll",     "he",
        "▁w", "or", "▁h", "llo", "ld", "hello", "▁hello", "▁wor", "▁world", "▁▁"}) {
    Add(&data, piece, TokenType::kNormal, score);
    score -= 1;
  }
  return data;
}

TokenizerData TinyBpe(const std::string& pre) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = pre;
  // The byte alphabet in the order of its code points, as GPT-2's own vocabulary has it.
  int n_bytes = 0;
  for (char32_t c = 0x21; n_bytes < 256; ++c) {
    const bool gap = (c > 0x7E && c < 0xA1) || c == 0xAD;
    if (gap) continue;
    std::string text;
    model::AppendUtf8(c, &text);
    Add(&data, text, TokenType::kNormal);
    ++n_bytes;
  }
  for (const char* merge : {"h e", "l l", "he ll", "hell o", "Ġ hello", "Ġ Ġ", "a a", "aa aa"}) {
    data.merges.emplace_back(merge);
    std::string joined = merge;
    joined.erase(joined.find(' '), 1);
    Add(&data, joined, TokenType::kNormal);
  }
  Add(&data, "<sep>", TokenType::kUserDefined);
  Add(&data, "<|im_start|>", TokenType::kControl);
  Add(&data, "<|im_end|>", TokenType::kControl);
  data.eos = static_cast<int64_t>(data.tokens.size());
  Add(&data, "<|endoftext|>", TokenType::kControl);
  return data;
}

}  // namespace thermocline::testing
