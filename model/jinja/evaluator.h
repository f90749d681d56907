// Runs a syntax tree against variables and collects the text it prints.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/jinja/ast.h"
#include "model/jinja/builtin.h"
#include "model/jinja/loop_state.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// Owned by one Render call; the tree, the runtime and the variables must outlive it.
// Thread-compatible.
class Evaluator {
 public:
  // `globals` are the variables given from outside.
  Evaluator(Runtime& runtime, const Dict& globals) : runtime_(runtime), globals_(globals) {}

  // The text the template prints. kInvalidArgument: it failed, or refused its input through
  // raise_exception; kResourceExhausted: a budget ran out.
  Result<std::string> Run(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  struct EvaluatedArguments {
    std::vector<Value> positional;
    std::vector<NamedArgument> named;
    CallArguments view() const { return {positional, named}; }
  };

  // Expressions (evaluator_expressions.cc).
  Result<Value> Evaluate(const Expr& expr);
  Result<Value> EvaluateOptional(const ExprPtr& expr);
  Result<Value> Eval(const StringLiteral& node);
  Result<Value> Eval(const Constant& node);
  Result<Value> Eval(const NameRef& node);
  Result<Value> Eval(const SequenceLiteral& node);
  Result<Value> Eval(const DictLiteral& node);
  Result<Value> Eval(const UnaryExpr& node);
  Result<Value> Eval(const ArithmeticExpr& node);
  Result<Value> Eval(const LogicExpr& node);
  Result<Value> Eval(const CompareExpr& node);
  Result<Value> Eval(const ConditionalExpr& node);
  Result<Value> Eval(const AttributeExpr& node);
  Result<Value> Eval(const SubscriptExpr& node);
  Result<Value> Eval(const SliceExpr& node);
  Result<Value> Eval(const CallExpr& node);
  Result<Value> Eval(const FilterExpr& node);
  Result<Value> Eval(const TestExpr& node);
  Result<EvaluatedArguments> EvaluateArguments(const ArgumentList& arguments);
  Result<Value> ApplyFilter(const FilterUse& use, const Value& input);
  Value Lookup(std::string_view name) const;
  Result<Value> CallAttribute(const Value& object, std::string_view name,
                              const CallArguments& arguments);
  Result<Value> CallValue(const Value& callee, const CallArguments& arguments);
  Result<Value> CallMacro(const MacroObject& macro, const CallArguments& arguments);
  Status BindParameters(const MacroStatement& definition, const CallArguments& arguments);
  Result<Value> LoopAttribute(LoopState& loop, std::string_view name);
  Result<Value> CallLoopMethod(LoopState& loop, std::string_view name,
                               const CallArguments& arguments);

  // Statements (evaluator.cc).
  Result<Flow> ExecuteBlock(const Block& block);
  Result<Flow> Execute(const Statement& statement);
  Result<Flow> Exec(const TextStatement& node);
  Result<Flow> Exec(const OutputStatement& node);
  Result<Flow> Exec(const IfStatement& node);
  Result<Flow> Exec(const ForStatement& node);
  Result<Flow> Exec(const SetStatement& node);
  Result<Flow> Exec(const SetBlockStatement& node);
  Result<Flow> Exec(const MacroStatement& node);
  Result<Flow> Exec(const FilterStatement& node);
  Result<Flow> Exec(const ScopeStatement& node);
  Result<Flow> Exec(const LoopControlStatement& node);
  Result<Flow> RunLoop(const ForStatement& node, LoopState& loop, Scope& scope);
  Status Assign(const Target& target, const Value& value, Scope& scope);
  Result<Value> FilterAll(const std::vector<FilterUse>& filters, Value value);
  Status Emit(std::string_view text);
  // What `block` prints, in a scope of its own.
  Result<Value> Capture(const Block& block);

  // Makes `count` items of the loop ready, as far as there are that many.
  Status Prefetch(LoopState& loop, size_t count);
  Result<bool> Passes(LoopState& loop, const Value& item);

  Runtime& runtime_;
  const Dict& globals_;
  Scope* scope_ = nullptr;
  std::string* output_ = nullptr;  // where Emit writes
  int n_captures_ = 0;             // captures around the current place
  bool located_ = false;           // the failure on its way out already names its line
};

}  // namespace thermocline::model::jinja
