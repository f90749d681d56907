#include "model/jinja/filters.h"

namespace thermocline::model::jinja {

const Builtin* FindFilter(std::string_view name) {
  for (const auto table : {TextFilters(), NumberFilters(), SequenceFilters(), SelectionFilters()}) {
    if (const Builtin* const found = FindBuiltin(table, name)) return found;
  }
  return nullptr;
}

}  // namespace thermocline::model::jinja
