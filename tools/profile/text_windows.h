// A text as the windows of tokens that a model reads one by one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/tokenizer.h"
#include "worker/assignment.h"

namespace thermocline::tools {

using Window = std::vector<int32_t>;

// Consecutive pieces of a text, each begun with the model's begin-of-text token when it has one.
struct TextWindows {
  std::vector<Window> windows;
  uint64_t n_tokens() const;
};

// The bytes of a text file. The codes of ReadTextFile; kInvalidArgument: larger than 1 GiB, or not
// UTF-8 (the message gives the offset of the first bad byte).
Result<std::string> ReadText(const std::string& path);

// kInvalidArgument when the model file has no tokenizer.
Result<std::unique_ptr<model::Tokenizer>> OpenTokenizer(const worker::LoadedModel& model);

// The first `max_tokens` tokens of `text` in windows of `window_tokens` (the last may be shorter,
// but has two tokens at least). kInvalidArgument when the text has fewer than `min_tokens`.
Result<TextWindows> CutWindows(const model::Tokenizer& tokenizer, std::string_view text,
                               uint64_t max_tokens, int window_tokens, uint64_t min_tokens);

// Takes the last windows that hold `fraction` of the tokens, at least one of them and not all.
// kInvalidArgument when there is only one.
Result<TextWindows> SplitHeldOut(double fraction, TextWindows* windows);

}  // namespace thermocline::tools
