// The global functions: range, dict, namespace, raise_exception, strftime_now.
#pragma once

#include <string_view>

#include "model/jinja/builtin.h"

namespace thermocline::model::jinja {

// nullptr for a function that does not exist.
const Builtin* FindFunction(std::string_view name);

}  // namespace thermocline::model::jinja
