// Decodes the escapes of a Jinja string literal, which are Python's.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::model::jinja {

// `body` is what stands between the quotes. Unknown escapes keep their backslash. A pair of
// \u surrogates becomes one code point; a lone one becomes U+FFFD. kInvalidArgument: \x, \u or \U
// without its digits, or \N{name}.
Result<std::string> DecodeString(std::string_view body);

}  // namespace thermocline::model::jinja
