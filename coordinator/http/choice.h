// One choice of a response: turns the tokens of a sequence into text that is certain.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "coordinator/http/openai_response.h"
#include "model/sampler.h"
#include "model/text_decoder.h"
#include "model/tokenizer.h"

namespace thermocline::coordinator::http {

// The prompt as an echoing choice repeats it.
struct EchoedPrompt {
  std::vector<int32_t> ids;
  std::string text;
};

// Compatible with one thread: the strand of its request.
class Choice {
 public:
  struct Options {
    int index = 0;
    int min_tokens = 0;        // stop strings are not looked for before
    bool keep_tokens = false;  // pieces carry their tokens, for logprobs or ids
  };

  // Borrows the tokenizer.
  Choice(const model::Tokenizer& tokenizer, model::StopMatcher stops, const Options& options);

  // Puts the prompt before the text. `scores` are those of its last tokens, or empty.
  void Echo(const EchoedPrompt& prompt, const std::vector<model::SampledToken>& scores);
  // Takes the next token of the text; ignored once finished.
  void Add(const model::SampledToken& token);
  // Ends the text: what was held back becomes certain.
  void Finish(std::string reason);

  // True after Finish, or when a stop string was found.
  bool finished() const { return !finish_reason_.empty(); }
  const std::string& finish_reason() const { return finish_reason_; }
  int n_tokens() const { return n_tokens_; }

  // The text and tokens that have become certain since the last call; no finish_reason.
  ChoicePiece Take();

 private:
  struct PendingToken {
    TokenEntry entry;
    size_t begin_bytes;  // where its text begins in the decoded text
  };

  TokenEntry EntryOf(const model::SampledToken& token) const;
  void Decoded(const std::string& text);

  const model::Tokenizer& tokenizer_;
  model::TextDecoder decoder_;
  model::StopMatcher stops_;
  const Options options_;
  int n_tokens_ = 0;
  std::string finish_reason_;
  std::string certain_;         // not yet taken
  size_t n_certain_bytes_ = 0;  // taken and not yet taken
  size_t n_decoded_bytes_ = 0;
  size_t n_decoded_chars_ = 0;
  std::deque<PendingToken> pending_;
};

// Code points of valid UTF-8.
size_t CountChars(std::string_view text);

}  // namespace thermocline::coordinator::http
