// Attribute access, and the dotted attribute names that filters take: `attribute="function.name"`.
#pragma once

#include <string_view>

#include "base/status.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// object.name: a method first, then an item, then undefined. kInvalidArgument: `object` is
// undefined.
Result<Value> GetAttribute(Runtime& runtime, const Value& object, std::string_view name);
// object[index]: an item first, then a method, then undefined.
Result<Value> GetSubscript(Runtime& runtime, const Value& object, const Value& index);
// Follows `path` (a text like "a.b.0", or a position) from `object`.
Result<Value> FollowPath(Runtime& runtime, const Value& object, const Value& path);

}  // namespace thermocline::model::jinja
