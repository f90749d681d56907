// Values as text: Python's str() and repr(), and the JSON of the tojson filter.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// Python's shortest form that reads back as the same double: "0.1", "1e+16", "inf".
std::string FloatText(double value);

// str(value); an undefined value is "". A string is returned as it is, without a copy.
// kResourceExhausted: the text is too long or nests too deeply.
Result<Value> ToText(Runtime& runtime, const Value& value);
// repr(value), appended.
Status AppendRepr(Runtime& runtime, const Value& value, TextBuilder& out);

struct JsonStyle {
  bool ensure_ascii = false;
  bool pretty = false;  // one member per line, indented by `indent`
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

// json.dumps(value). kInvalidArgument: a value without a JSON form (undefined, macro).
Result<Value> ToJson(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace thermocline::model::jinja
