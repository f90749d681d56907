// JSON text -> template values. The one file that sees the JSON library.
#pragma once

#include <string_view>

#include "base/status.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// Members keep their order; of repeated names the last value wins. kInvalidArgument: not JSON, an
// integer beyond 64 bits, nesting deeper than the runtime's max_depth; kResourceExhausted: too big.
Result<Value> ParseJson(Runtime& runtime, std::string_view text);

}  // namespace thermocline::model::jinja
