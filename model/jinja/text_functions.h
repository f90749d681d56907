// Operations on text that filters and methods share.
#pragma once

#include <string_view>

#include "base/status.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// Where `wanted` first stands at or after `from`, else npos. Takes time linear in the text, which
// std::string_view::find does not.
size_t FindText(std::string_view text, std::string_view wanted, size_t from = 0);
// str.replace: at most `max_count` times, negative for all.
Result<Value> ReplaceText(Runtime& runtime, std::string_view text, std::string_view from,
                          std::string_view to, int64_t max_count);
// str.capitalize: first letter large, the others small.
Result<Value> CapitalizeText(Runtime& runtime, std::string_view text);
// Items as text, joined.
Result<Value> JoinText(Runtime& runtime, std::string_view separator, std::span<const Value> items);
// str.splitlines, without the line ends.
Result<Value> SplitLines(Runtime& runtime, std::string_view text);
// `text` between as many blanks as make it `width` wide.
Result<Value> CenterText(Runtime& runtime, std::string_view text, int64_t width);

}  // namespace thermocline::model::jinja
