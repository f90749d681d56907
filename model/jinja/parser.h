// Template text -> syntax tree, in the grammar of Jinja2 with the loopcontrols extension.
//
// All that a template could ask for and we lack is refused here, so that a model with such a
// template fails when it is loaded and not in the middle of a conversation.
#pragma once

#include <string_view>

#include "base/status.h"
#include "model/jinja/ast.h"

namespace thermocline::model::jinja {

// kInvalidArgument: a syntax error, nesting deeper than `max_depth`, or a statement, filter, test,
// function or method that is not supported; the message names it and its line.
Result<Block> Parse(std::string_view source, int max_depth);

}  // namespace thermocline::model::jinja
