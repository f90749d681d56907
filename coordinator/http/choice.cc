#include "coordinator/http/choice.h"

#include <algorithm>
#include <utility>

namespace thermocline::coordinator::http {

size_t CountChars(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

Choice::Choice(const model::Tokenizer& tokenizer, model::StopMatcher stops, const Options& options)
    : tokenizer_(tokenizer), stops_(std::move(stops)), options_(options) {}

TokenEntry Choice::EntryOf(const model::SampledToken& token) const {
  TokenEntry entry{.id = token.token,
                   .bytes = tokenizer_.TokenBytes(token.token, /*with_special=*/true),
                   .logprob = token.logprob};
  for (const model::TokenLogprob& other : token.top) {
    entry.top.push_back({tokenizer_.TokenBytes(other.token, true), other.logprob});
  }
  return entry;
}

void Choice::Echo(const EchoedPrompt& prompt, const std::vector<model::SampledToken>& scores) {
  // Bytes that the tokenizer added before the text: a begin token, a leading space.
  std::string joined;
  for (const int32_t id : prompt.ids) joined += tokenizer_.TokenBytes(id, true);
  const size_t n_added = joined.size() - std::min(joined.size(), prompt.text.size());
  const size_t n_scored = std::min(scores.size(), prompt.ids.size());
  const size_t n_unscored = prompt.ids.size() - n_scored;
  size_t at = 0;
  for (size_t i = 0; options_.keep_tokens && i < prompt.ids.size(); ++i) {
    TokenEntry entry = i < n_unscored ? EntryOf({.token = prompt.ids[i]})
                                      : EntryOf(scores[scores.size() - prompt.ids.size() + i]);
    // Nothing comes before the first token, so nothing predicts it.
    if (i == 0 || i < n_unscored) entry = {.id = entry.id, .bytes = entry.bytes};
    const size_t begin = at > n_added ? at - n_added : 0;
    entry.text_offset = CountChars(std::string_view(prompt.text).substr(0, begin));
    at += entry.bytes.size();
    pending_.push_back({std::move(entry), 0});
  }
  certain_ += prompt.text;
  n_certain_bytes_ += prompt.text.size();
  n_decoded_bytes_ += prompt.text.size();
  n_decoded_chars_ += CountChars(prompt.text);
}

void Choice::Decoded(const std::string& text) {
  n_decoded_bytes_ += text.size();
  n_decoded_chars_ += CountChars(text);
  const std::string certain = n_tokens_ > options_.min_tokens ? stops_.Push(text) : text;
  certain_ += certain;
  n_certain_bytes_ += certain.size();
}

void Choice::Add(const model::SampledToken& token) {
  if (finished()) return;
  ++n_tokens_;
  if (options_.keep_tokens) {
    PendingToken pending{EntryOf(token), n_decoded_bytes_};
    pending.entry.text_offset = n_decoded_chars_;
    pending_.push_back(std::move(pending));
  }
  Decoded(decoder_.Push(tokenizer_.TokenBytes(token.token, /*with_special=*/false)));
  if (stops_.stopped()) finish_reason_ = "stop";
}

void Choice::Finish(std::string reason) {
  if (finished()) return;
  Decoded(decoder_.Flush());
  const std::string held = stops_.Flush();
  certain_ += held;
  n_certain_bytes_ += held.size();
  finish_reason_ = std::move(reason);
}

ChoicePiece Choice::Take() {
  ChoicePiece piece{.index = options_.index, .text = std::exchange(certain_, {})};
  // The tokens of a stop string are not part of the answer; every other token of a finished one is.
  const bool take_all = finished() && !stops_.stopped();
  while (!pending_.empty() && (take_all || pending_.front().begin_bytes < n_certain_bytes_)) {
    piece.tokens.push_back(std::move(pending_.front().entry));
    pending_.pop_front();
  }
  return piece;
}

}  // namespace thermocline::coordinator::http
