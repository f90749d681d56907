// The height of expression trees, by which the parser refuses trees too deep to walk.
#pragma once

#include "model/jinja/ast.h"

namespace thermocline::model::jinja {

// The greatest height among the direct children of `expr`; 0 for a leaf.
int TallestChild(const Expr& expr);

}  // namespace thermocline::model::jinja
