// The filters: `value | name(arguments)`.
#pragma once

#include <span>
#include <string_view>

#include "model/jinja/builtin.h"

namespace thermocline::model::jinja {

// nullptr for a filter that is not supported.
const Builtin* FindFilter(std::string_view name);

// The tables behind FindFilter, by what they work on.
std::span<const Builtin> TextFilters();
std::span<const Builtin> NumberFilters();
std::span<const Builtin> SequenceFilters();
std::span<const Builtin> SelectionFilters();

}  // namespace thermocline::model::jinja
