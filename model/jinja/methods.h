// The methods of strings, dicts, lists and tuples: `value.name(arguments)`.
#pragma once

#include <string_view>

#include "model/jinja/builtin.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// The method `name` of values of that kind, or nullptr. Methods that would change their object
// (append, update...) exist and fail when called, as in the sandbox that templates are written for.
const Builtin* FindMethod(Kind kind, std::string_view name);

// Whether any kind of value has such a method, the loop variable included.
bool IsMethodName(std::string_view name);

}  // namespace thermocline::model::jinja
