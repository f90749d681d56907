#include "coordinator/http/chat_prompt.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/str.h"

namespace thermocline::coordinator::http {
namespace {

// Around the number of a text that was set aside. Private-use characters: text that contains them
// already can at most name a set-aside text, which comes back as ordinary tokens.
constexpr std::string_view kOpen = "\uE0F0";
constexpr std::string_view kClose = "\uE0F1";

std::string TextOf(const model::Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id ? std::string(tokenizer.TokenText(*id)) : std::string();
}

void ReplaceAll(std::string_view from, const std::string& to, std::string* text) {
  for (size_t at = text->find(from); at != std::string::npos; at = text->find(from, at)) {
    text->replace(at, from.size(), to);
    at += to.size();
  }
}

// Replaces each control token's text in `content` by its number in `set_aside`.
void SetControlTextAside(const model::Tokenizer& tokenizer, std::string* content,
                         std::vector<std::string>* set_aside) {
  for (const int32_t id :
       tokenizer.Encode(*content, {.add_special = false, .parse_special = true})) {
    const std::string_view text = tokenizer.TokenText(id);
    if (tokenizer.Type(id) != model::TokenType::kControl || text.empty()) continue;
    if (content->find(text) == std::string::npos) continue;  // done by an earlier occurrence
    ReplaceAll(text, Str(kOpen, set_aside->size(), kClose), content);
    set_aside->emplace_back(text);
  }
}

// A piece of the rendered prompt: the template's text, or text that was set aside.
struct Piece {
  std::string_view text;
  bool from_template = true;
};

// The set-aside text that `text` begins with, by its number; moves `text` past it.
const std::string* TakeSetAside(const std::vector<std::string>& set_aside, std::string_view* text) {
  size_t number = 0;
  const char* begin = text->data() + kOpen.size();
  const char* end = text->data() + text->size();
  const auto [after, error] = std::from_chars(begin, end, number);
  const std::string_view rest(after, static_cast<size_t>(end - after));
  if (error != std::errc() || !rest.starts_with(kClose) || number >= set_aside.size())
    return nullptr;
  *text = rest.substr(kClose.size());
  return &set_aside[number];
}

std::vector<Piece> SplitPieces(std::string_view rendered,
                               const std::vector<std::string>& set_aside) {
  std::vector<Piece> pieces;
  size_t searched = 0;  // of the front piece
  while (!rendered.empty()) {
    const size_t open = set_aside.empty() ? std::string_view::npos : rendered.find(kOpen, searched);
    if (open == std::string_view::npos) {
      pieces.push_back({rendered});
      break;
    }
    std::string_view rest = rendered.substr(open);
    const std::string* text = TakeSetAside(set_aside, &rest);
    if (text == nullptr) {
      searched = open + kOpen.size();
      continue;
    }
    if (open > 0) pieces.push_back({rendered.substr(0, open)});
    pieces.push_back({*text, false});
    rendered = rest;
    searched = 0;
  }
  return pieces;
}

TokenIds EncodePieces(const std::vector<Piece>& pieces, const model::Tokenizer& tokenizer) {
  TokenIds ids;
  for (const Piece& piece : pieces) {
    const TokenIds part =
        tokenizer.Encode(piece.text, {.add_special = false, .parse_special = piece.from_template});
    ids.insert(ids.end(), part.begin(), part.end());
  }
  const model::SpecialTokens& special = tokenizer.special();
  const bool lacks_bos = special.add_bos && special.bos && (ids.empty() || ids[0] != *special.bos);
  if (lacks_bos) ids.insert(ids.begin(), *special.bos);
  return ids;
}

// The mark that `text` begins with, "<|im_start|>" or "<start_of_turn>"; "" where it is none, as
// tags of HTML and [INST], which models know as several tokens, are none.
std::string_view MarkAtBegin(std::string_view text) {
  constexpr size_t kLongest = 48;
  const size_t end = text.substr(0, kLongest).find('>');
  if (text.empty() || text[0] != '<' || end == std::string_view::npos || end < 3) return {};
  const std::string_view inner = text.substr(1, end - 1);
  if (inner.find_first_of("< \n\t\"=/") != std::string_view::npos) return {};
  const bool has_bars = inner.front() == '|' && inner.back() == '|';
  const bool has_words = inner.find("_of_") != std::string_view::npos;
  return has_bars || has_words ? text.substr(0, end + 1) : std::string_view();
}

}  // namespace

std::optional<ApiError> MakeChatPrompt(const ChatRequest& request,
                                       const model::ChatTemplate* chat_template,
                                       const model::Tokenizer& tokenizer, ChatPrompt* prompt) {
  if (!chat_template) {
    return BadParameter("messages",
                        "the model has no chat template; use /v1/completions, or start the server "
                        "with --chat-template",
                        "no_chat_template");
  }
  model::ChatTemplateInput input{.messages = request.messages,
                                 .add_generation_prompt = request.add_generation_prompt,
                                 .bos_token = TextOf(tokenizer, tokenizer.special().bos),
                                 .eos_token = TextOf(tokenizer, tokenizer.special().eos),
                                 .kwargs_json = request.template_kwargs_json};
  std::vector<std::string> set_aside;
  for (model::ChatMessage& message : input.messages) {
    SetControlTextAside(tokenizer, &message.content, &set_aside);
    SetControlTextAside(tokenizer, &message.name, &set_aside);
  }
  SetControlTextAside(tokenizer, &input.kwargs_json, &set_aside);
  const auto rendered = chat_template->Render(input);
  if (!rendered.ok()) {
    return BadParameter("messages", Str("the chat template failed: ", rendered.status().message()),
                        "chat_template_error");
  }
  const std::vector<Piece> pieces = SplitPieces(*rendered, set_aside);
  prompt->ids = EncodePieces(pieces, tokenizer);
  prompt->text.clear();
  for (const Piece& piece : pieces) prompt->text += piece.text;
  return std::nullopt;
}

std::vector<std::string> MarksWithoutToken(const model::ChatTemplate& chat_template,
                                           const model::Tokenizer& tokenizer) {
  const auto rendered =
      chat_template.Render({.messages = {{"user", "Hello"}},
                            .bos_token = TextOf(tokenizer, tokenizer.special().bos),
                            .eos_token = TextOf(tokenizer, tokenizer.special().eos)});
  std::vector<std::string> without;
  if (!rendered.ok()) return without;
  const std::string_view text = *rendered;
  for (size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    const std::string mark(MarkAtBegin(text.substr(at)));
    if (mark.empty() || std::find(without.begin(), without.end(), mark) != without.end()) continue;
    if (tokenizer.Encode(mark, {.add_special = false}).size() != 1) without.push_back(mark);
  }
  return without;
}

}  // namespace thermocline::coordinator::http
