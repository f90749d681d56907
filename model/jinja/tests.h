// The tests: `value is name(arguments)`.
#pragma once

#include <string_view>

#include "model/jinja/builtin.h"

namespace thermocline::model::jinja {

// nullptr for a test that is not supported. A test returns a bool.
const Builtin* FindTest(std::string_view name);

}  // namespace thermocline::model::jinja
