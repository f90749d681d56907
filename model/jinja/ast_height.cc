#include "model/jinja/ast_height.h"

#include <algorithm>

namespace thermocline::model::jinja {
namespace {

// Collects the greatest height of the children it is shown; one overload per node type.
struct HeightVisitor {
  int tallest = 0;

  void See(const ExprPtr& child) {
    if (child != nullptr) tallest = std::max(tallest, child->height);
  }
  void See(const ArgumentList& arguments) {
    for (const ExprPtr& value : arguments.positional) See(value);
    for (const auto& [name, value] : arguments.named) See(value);
  }

  void operator()(const StringLiteral&) {}
  void operator()(const Constant&) {}
  void operator()(const NameRef&) {}
  void operator()(const SequenceLiteral& node) {
    for (const ExprPtr& item : node.items) See(item);
  }
  void operator()(const DictLiteral& node) {
    for (const auto& [key, value] : node.entries) {
      See(key);
      See(value);
    }
  }
  void operator()(const UnaryExpr& node) { See(node.operand); }
  void operator()(const ArithmeticExpr& node) {
    See(node.first);
    for (const auto& [op, operand] : node.rest) See(operand);
  }
  void operator()(const LogicExpr& node) {
    for (const ExprPtr& operand : node.operands) See(operand);
  }
  void operator()(const CompareExpr& node) {
    See(node.first);
    for (const auto& [op, operand] : node.rest) See(operand);
  }
  void operator()(const ConditionalExpr& node) {
    See(node.condition);
    See(node.then);
    See(node.otherwise);
  }
  void operator()(const AttributeExpr& node) { See(node.object); }
  void operator()(const SubscriptExpr& node) {
    See(node.object);
    See(node.index);
  }
  void operator()(const SliceExpr& node) {
    See(node.object);
    See(node.begin);
    See(node.end);
    See(node.step);
  }
  void operator()(const CallExpr& node) {
    See(node.callee);
    See(node.arguments);
  }
  void operator()(const FilterExpr& node) {
    See(node.input);
    See(node.use.arguments);
  }
  void operator()(const TestExpr& node) {
    See(node.input);
    See(node.arguments);
  }
};

}  // namespace

int TallestChild(const Expr& expr) {
  HeightVisitor visitor;
  std::visit(visitor, expr.node);
  return visitor.tallest;
}

}  // namespace thermocline::model::jinja
