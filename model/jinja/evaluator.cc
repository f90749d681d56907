#include "model/jinja/evaluator.h"

#include <utility>

#include "base/str.h"
#include "model/jinja/operators.h"
#include "model/jinja/text_of.h"

namespace thermocline::model::jinja {
namespace {

// Puts a variable back when a block ends, however it ends.
template <typename T>
class Restore {
 public:
  Restore(T& variable, T value) : variable_(variable), old_(std::exchange(variable, value)) {}
  ~Restore() { variable_ = old_; }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T& variable_;
  const T old_;
};

}  // namespace

Result<std::string> Evaluator::Run(const Block& block) {
  std::string output;
  TC_ASSIGN_OR_RETURN(scope_, runtime_.NewScope(nullptr));
  output_ = &output;
  const auto flow = ExecuteBlock(block);
  if (!flow.ok()) return flow.status();
  return output;
}

Result<Evaluator::Flow> Evaluator::ExecuteBlock(const Block& block) {
  const DepthGuard guard(runtime_);
  TC_RETURN_IF_ERROR(guard.status());
  for (const Statement& statement : block) {
    auto flow = Execute(statement);
    if (!flow.ok() || *flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Execute(const Statement& statement) {
  TC_RETURN_IF_ERROR(runtime_.Step());
  auto flow = std::visit([this](const auto& node) { return Exec(node); }, statement.node);
  if (flow.ok() || std::exchange(located_, true)) return flow;
  return flow.status().WithContext(Str("template line ", statement.line));
}

Result<Evaluator::Flow> Evaluator::Exec(const TextStatement& node) {
  TC_RETURN_IF_ERROR(Emit(node.text));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Exec(const OutputStatement& node) {
  TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value));
  TC_ASSIGN_OR_RETURN(const Value text, ToText(runtime_, value));
  TC_RETURN_IF_ERROR(Emit(text.text()));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Exec(const IfStatement& node) {
  for (const IfStatement::Branch& branch : node.branches) {
    TC_ASSIGN_OR_RETURN(const Value condition, Evaluate(*branch.condition));
    if (condition.Truthy()) return ExecuteBlock(branch.body);
  }
  return ExecuteBlock(node.otherwise);
}

Result<Evaluator::Flow> Evaluator::Exec(const ForStatement& node) {
  TC_ASSIGN_OR_RETURN(const Value iterable, Evaluate(*node.iterable));
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime_, iterable));
  const bool filtered = node.filter != nullptr;
  TC_ASSIGN_OR_RETURN(LoopState* const loop, runtime_.NewLoop(node, filtered, items));
  if (filtered) {
    TC_ASSIGN_OR_RETURN(loop->filter_scope, runtime_.NewScope(scope_));
  }
  TC_ASSIGN_OR_RETURN(Scope* const scope, runtime_.NewScope(scope_));
  TC_RETURN_IF_ERROR(Prefetch(*loop, 1));
  const bool is_empty = loop->ready().empty();
  const Restore<Scope*> scope_guard(scope_, scope);
  if (is_empty) return ExecuteBlock(node.otherwise);
  return RunLoop(node, *loop, *scope);
}

Result<Evaluator::Flow> Evaluator::RunLoop(const ForStatement& node, LoopState& loop,
                                           Scope& scope) {
  for (loop.index = 0; loop.index < loop.ready().size(); ++loop.index) {
    TC_RETURN_IF_ERROR(runtime_.Step());
    scope.variables.clear();
    TC_RETURN_IF_ERROR(Assign(node.target, loop.ready()[loop.index], scope));
    TC_RETURN_IF_ERROR(runtime_.SetVariable(scope, "loop", Value::Of(&loop)));
    auto flow = ExecuteBlock(node.body);
    if (!flow.ok()) return flow;
    if (*flow == Flow::kBreak) break;
    TC_RETURN_IF_ERROR(Prefetch(loop, loop.index + 2));
  }
  return Flow::kNext;
}

Status Evaluator::Prefetch(LoopState& loop, size_t count) {
  while (loop.ready().size() < count && loop.has_untested()) {
    const Value item = loop.NextUntested();
    TC_ASSIGN_OR_RETURN(const bool passes, Passes(loop, item));
    if (!passes) continue;
    TC_RETURN_IF_ERROR(runtime_.Charge(2 * sizeof(Value)));  // vectors grow by doubling
    loop.AddPassed(item);
  }
  return OkStatus();
}

Result<bool> Evaluator::Passes(LoopState& loop, const Value& item) {
  TC_RETURN_IF_ERROR(runtime_.Step());
  const Restore<Scope*> scope_guard(scope_, loop.filter_scope);
  TC_RETURN_IF_ERROR(Assign(loop.statement().target, item, *loop.filter_scope));
  TC_ASSIGN_OR_RETURN(const Value holds, Evaluate(*loop.statement().filter));
  return holds.Truthy();
}

Result<Evaluator::Flow> Evaluator::Exec(const SetStatement& node) {
  TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value));
  TC_RETURN_IF_ERROR(Assign(node.target, value, *scope_));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Exec(const SetBlockStatement& node) {
  TC_ASSIGN_OR_RETURN(const Value text, Capture(node.body));
  TC_ASSIGN_OR_RETURN(const Value value, FilterAll(node.filters, text));
  TC_RETURN_IF_ERROR(Assign(node.target, value, *scope_));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Exec(const MacroStatement& node) {
  TC_ASSIGN_OR_RETURN(const MacroObject* const macro, runtime_.New(MacroObject{&node, scope_}));
  TC_RETURN_IF_ERROR(runtime_.SetVariable(*scope_, node.name, Value::Of(macro)));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Exec(const FilterStatement& node) {
  TC_ASSIGN_OR_RETURN(const Value text, Capture(node.body));
  TC_ASSIGN_OR_RETURN(const Value value, FilterAll(node.filters, text));
  TC_ASSIGN_OR_RETURN(const Value shown, ToText(runtime_, value));
  TC_RETURN_IF_ERROR(Emit(shown.text()));
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::Exec(const ScopeStatement& node) {
  TC_ASSIGN_OR_RETURN(Scope* const scope, runtime_.NewScope(scope_));
  const Restore<Scope*> guard(scope_, scope);
  return ExecuteBlock(node.body);
}

Result<Evaluator::Flow> Evaluator::Exec(const LoopControlStatement& node) {
  return node.is_break ? Flow::kBreak : Flow::kContinue;
}

Status Evaluator::Assign(const Target& target, const Value& value, Scope& scope) {
  if (!target.attribute.empty()) {
    const Value object = Lookup(target.names[0]);
    if (!object.is(Kind::kNamespace)) {
      return InvalidArgument(Str("attribute set on something that is no namespace: ",
                                 Printable(target.names[0]), Kv("type", object.TypeName())));
    }
    return runtime_.SetAttribute(object.object(), target.attribute, value);
  }
  if (!target.unpack) return runtime_.SetVariable(scope, target.names[0], value);
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime_, value));
  if (items.size() != target.names.size()) {
    return InvalidArgument(Str("wrong number of values to unpack:",
                               Kv("expected", target.names.size()), Kv("got", items.size())));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    TC_RETURN_IF_ERROR(runtime_.SetVariable(scope, target.names[i], items[i]));
  }
  return OkStatus();
}

Result<Value> Evaluator::FilterAll(const std::vector<FilterUse>& filters, Value value) {
  for (const FilterUse& use : filters) {
    TC_ASSIGN_OR_RETURN(value, ApplyFilter(use, value));
  }
  return value;
}

Status Evaluator::Emit(std::string_view text) {
  TC_RETURN_IF_ERROR(runtime_.Work(text.size()));
  const size_t max_bytes = runtime_.limits().max_output_bytes;
  if (text.size() > max_bytes - output_->size()) {
    return ResourceExhausted(Str("template printed too much:", Kv("max_bytes", max_bytes)));
  }
  // Captured text lives beside what is already stored.
  if (n_captures_ > 0) TC_RETURN_IF_ERROR(runtime_.Charge(text.size()));
  *output_ += text;
  return OkStatus();
}

Result<Value> Evaluator::Capture(const Block& block) {
  std::string captured;
  TC_ASSIGN_OR_RETURN(Scope* const scope, runtime_.NewScope(scope_));
  const Restore<Scope*> scope_guard(scope_, scope);
  const Restore<std::string*> output_guard(output_, &captured);
  const Restore<int> captures_guard(n_captures_, n_captures_ + 1);
  const auto flow = ExecuteBlock(block);
  if (!flow.ok()) return flow.status();
  return runtime_.NewString(captured);
}

}  // namespace thermocline::model::jinja
