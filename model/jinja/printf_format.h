// Python's `text % values` for the conversions that templates use: %s %r %d %i %f %e %g %x %X %o
// %c %%, with flags, width and precision.
#pragma once

#include <string_view>

#include "base/status.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// `values` is a tuple with one value per conversion, or a single value. kInvalidArgument: another
// conversion, a value of the wrong type, too few or too many values.
Result<Value> PrintfFormat(Runtime& runtime, std::string_view format, const Value& values);

}  // namespace thermocline::model::jinja
