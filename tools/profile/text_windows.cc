#include "tools/profile/text_windows.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "base/str.h"
#include "base/text_file.h"
#include "base/units.h"
#include "model/gguf.h"
#include "model/unicode.h"

namespace thermocline::tools {
namespace {

// Tokens take about four times the bytes of their text; profiles need some hundred KB of it.
constexpr uint64_t kMaxTextBytes = kGiB;
constexpr size_t kMinWindowTokens = 2;  // one to read and one to score

}  // namespace

uint64_t TextWindows::n_tokens() const {
  uint64_t n = 0;
  for (const Window& window : windows) n += window.size();
  return n;
}

Result<std::string> ReadText(const std::string& path) {
  TC_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kMaxTextBytes));
  TC_RETURN_IF_ERROR(model::CheckUtf8(text, path));
  return text;
}

Result<std::unique_ptr<model::Tokenizer>> OpenTokenizer(const worker::LoadedModel& model) {
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*model.reader));
  auto tokenizer = model::Tokenizer::FromGguf(file);
  if (tokenizer.ok()) return tokenizer;
  if (tokenizer.status().code() != StatusCode::kNotFound) {
    return tokenizer.status().WithContext(Str("tokenizer of ", model.reader->name()));
  }
  return InvalidArgument(
      Str("the model has no tokenizer, so it cannot read a text: ", model.reader->name()));
}

Result<TextWindows> CutWindows(const model::Tokenizer& tokenizer, std::string_view text,
                               uint64_t max_tokens, int window_tokens, uint64_t min_tokens) {
  const std::vector<int32_t> ids = tokenizer.Encode(text, {.add_special = false});
  if (ids.size() < min_tokens) {
    return InvalidArgument(Str("text is too short:", Kv("tokens", ids.size()),
                               Kv("needed", min_tokens), Kv("bytes", text.size())));
  }
  const model::SpecialTokens& special = tokenizer.special();
  const bool has_begin = special.add_bos && special.bos.has_value();
  const auto body = static_cast<size_t>(window_tokens) - (has_begin ? 1 : 0);
  const size_t n_used = std::min<uint64_t>(ids.size(), max_tokens);
  TextWindows cut;
  for (size_t at = 0; at < n_used; at += body) {
    Window window;
    if (has_begin && ids[at] != *special.bos) window.push_back(*special.bos);
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(at);
    window.insert(window.end(), begin,
                  begin + static_cast<std::ptrdiff_t>(std::min(body, n_used - at)));
    if (window.size() >= kMinWindowTokens) cut.windows.push_back(std::move(window));
  }
  return cut;
}

Result<TextWindows> SplitHeldOut(double fraction, TextWindows* windows) {
  const size_t n = windows->windows.size();
  if (n < 2) {
    return InvalidArgument(Str("text is too short to hold a part of it out:", Kv("windows", n),
                               "; give a longer one, or --held-out FILE, or a smaller --window"));
  }
  const double wanted = fraction * static_cast<double>(windows->n_tokens());
  size_t n_held_out = 0;
  for (double held = 0; n_held_out < n - 1 && (n_held_out == 0 || held < wanted); ++n_held_out) {
    held += static_cast<double>(windows->windows[n - 1 - n_held_out].size());
  }
  const auto begin = windows->windows.end() - static_cast<std::ptrdiff_t>(n_held_out);
  TextWindows held_out;
  held_out.windows.assign(std::make_move_iterator(begin),
                          std::make_move_iterator(windows->windows.end()));
  windows->windows.erase(begin, windows->windows.end());
  return held_out;
}

}  // namespace thermocline::tools
