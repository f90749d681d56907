// Cuts a template into tokens and settles all white space: `-` and `+` markers, and the options
// that chat templates are written for (trim_blocks and lstrip_blocks on, the source's last newline
// dropped).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline::model::jinja {

enum class TokenKind : uint8_t {
  kText,           // template text to copy
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kName,
  kString,   // `text` is the decoded value
  kInteger,  // `text` has no underscores; may start with 0x, 0o, 0b
  kFloat,    // `text` has no underscores
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  int line = 0;
};

// The last token is kEnd. kInvalidArgument: an unclosed tag, comment, string or bracket, or a
// character that begins no token.
Result<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace thermocline::model::jinja
