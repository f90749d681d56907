// UTF-8 at the level the tokenizers need: where a sequence ends, and whether it is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::model {

enum class Utf8Kind : uint8_t {
  kValid,       // one whole code point
  kInvalid,     // bytes that no continuation can make valid
  kIncomplete,  // the end of the text cuts a sequence that may yet become valid
};

struct Utf8Unit {
  Utf8Kind kind = Utf8Kind::kInvalid;
  size_t n_bytes = 0;      // > 0; of kInvalid: the longest prefix that U+FFFD replaces as one
  char32_t codepoint = 0;  // of kValid
};

// What stands at the start of `text`, which must not be empty. Surrogates, overlong forms and code
// points above U+10FFFF are invalid. Source: The Unicode Standard, table 3-7 (well-formed byte
// sequences) and section 3.9 (substitution of maximal subparts).
Utf8Unit ScanUtf8(std::string_view text);

// The number of leading bytes of `text` that are whole, valid code points.
size_t ValidUtf8Prefix(std::string_view text);
inline bool IsValidUtf8(std::string_view text) { return ValidUtf8Prefix(text) == text.size(); }
// kInvalidArgument names `source`, where the text is from, and the first byte that is no UTF-8.
Status CheckUtf8(std::string_view text, std::string_view source);

// `codepoint` must be a Unicode scalar value.
void AppendUtf8(char32_t codepoint, std::string* out);

// U+FFFD, which stands for bytes that are not UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace thermocline::model
