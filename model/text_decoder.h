// Turns the byte stream of generated tokens into text that can be sent while it grows: never half a
// character, never a stop string or a part of one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline::model {

// Bytes in, valid UTF-8 out. An incomplete tail is held until the next bytes decide it; what can no
// longer become valid turns into U+FFFD, one per maximal subpart. The output depends on the bytes
// only, not on how they were cut. Thread-compatible.
class TextDecoder {
 public:
  // The text that `bytes` complete; possibly empty.
  std::string Push(std::string_view bytes);
  // The end of the stream: a held tail becomes U+FFFD.
  std::string Flush();

 private:
  std::string tail_;  // at most 3 bytes: a proper prefix of a valid sequence
};

// Finds the first of several stop strings in a stream of valid UTF-8 text. Text that may be the
// start of a stop string is held back until it is disproved. The stop whose last byte comes first
// wins; of two that end together, the longer. The outcome does not depend on how the text was cut.
// Thread-compatible.
class StopMatcher {
 public:
  // OpenAI and TGI allow 4 stops, llama.cpp any number; 16 short ones serve both kinds of client.
  static constexpr size_t kMaxStops = 16;
  static constexpr size_t kMaxStopBytes = 256;

  // kInvalidArgument: too many stops; an empty one; one that is too long or not UTF-8.
  static Result<StopMatcher> Create(const std::vector<std::string>& stops);

  // The text that is now certain to be no part of a stop string. Once stopped(), nothing more.
  std::string Push(std::string_view text);
  // The end of the stream without a stop: what was held back.
  std::string Flush();

  bool stopped() const { return matched_ >= 0; }
  // The index in `stops` of the string that was found, or -1.
  int matched_stop() const { return matched_; }

 private:
  // One stop string as a Knuth-Morris-Pratt automaton.
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // border[i]: longest proper prefix of text[0, i] that ends it
    size_t n_matched = 0;        // the longest prefix of `text` that ends the stream so far
  };

  // Moves all patterns over one byte; the index of the one that is complete, or -1.
  int Advance(char byte);
  size_t LongestPartialMatch() const;

  std::vector<Pattern> patterns_;
  std::string held_;
  int matched_ = -1;
};

}  // namespace thermocline::model
