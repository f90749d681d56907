// The expression half of Evaluator.
#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/jinja/attribute_path.h"
#include "model/jinja/evaluator.h"
#include "model/jinja/functions.h"
#include "model/jinja/methods.h"
#include "model/jinja/operators.h"

namespace thermocline::model::jinja {

Result<Value> Evaluator::Evaluate(const Expr& expr) {
  const DepthGuard guard(runtime_);
  TC_RETURN_IF_ERROR(guard.status());
  TC_RETURN_IF_ERROR(runtime_.Step());
  return std::visit([this](const auto& node) { return Eval(node); }, expr.node);
}

Result<Value> Evaluator::EvaluateOptional(const ExprPtr& expr) {
  if (expr == nullptr) return Value();
  return Evaluate(*expr);
}

Result<Value> Evaluator::Eval(const StringLiteral& node) { return Value::String(node.text); }

Result<Value> Evaluator::Eval(const Constant& node) { return node.value; }

Result<Value> Evaluator::Eval(const NameRef& node) { return Lookup(node.name); }

Value Evaluator::Lookup(std::string_view name) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [key, value] : scope->variables) {
      if (key == name) return value;
    }
  }
  if (const Value* const found = globals_.Find(name)) return *found;
  if (const Builtin* const function = FindFunction(name)) return Value::Of(function);
  return Value::Undefined(name);
}

Result<Value> Evaluator::Eval(const SequenceLiteral& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) {
    TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*item));
    items.push_back(value);
  }
  return node.is_tuple ? runtime_.NewTuple(items) : runtime_.NewList(items);
}

Result<Value> Evaluator::Eval(const DictLiteral& node) {
  std::vector<Entry> entries;
  entries.reserve(node.entries.size());
  for (const auto& [key_expr, value_expr] : node.entries) {
    TC_ASSIGN_OR_RETURN(const Value key, Evaluate(*key_expr));
    TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*value_expr));
    entries.push_back({key, value});
  }
  return runtime_.NewDict(entries);
}

Result<Value> Evaluator::Eval(const UnaryExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.operand));
  if (node.op == UnaryOp::kNot) return Value::Bool(!value.Truthy());
  if (node.op == UnaryOp::kNegate) return Negate(value);
  if (value.is(Kind::kFloat)) return value;
  if (value.is_integral()) return Value::Int(value.integer());
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  return InvalidArgument(Str("plus takes a number:", Kv("got", value.TypeName())));
}

Result<Value> Evaluator::Eval(const ArithmeticExpr& node) {
  TC_ASSIGN_OR_RETURN(Value value, Evaluate(*node.first));
  for (const auto& [op, operand_expr] : node.rest) {
    TC_ASSIGN_OR_RETURN(const Value operand, Evaluate(*operand_expr));
    TC_ASSIGN_OR_RETURN(value, Arithmetic(runtime_, op, value, operand));
  }
  return value;
}

Result<Value> Evaluator::Eval(const LogicExpr& node) {
  Value value;
  for (const ExprPtr& operand : node.operands) {
    TC_ASSIGN_OR_RETURN(value, Evaluate(*operand));
    if (value.Truthy() != node.is_and) break;  // decided
  }
  return value;
}

Result<Value> Evaluator::Eval(const CompareExpr& node) {
  TC_ASSIGN_OR_RETURN(Value left, Evaluate(*node.first));
  for (const auto& [op, operand_expr] : node.rest) {
    TC_ASSIGN_OR_RETURN(const Value right, Evaluate(*operand_expr));
    TC_ASSIGN_OR_RETURN(const bool holds, Compare(runtime_, op, left, right));
    if (!holds) return Value::Bool(false);
    left = right;
  }
  return Value::Bool(true);
}

Result<Value> Evaluator::Eval(const ConditionalExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.condition));
  return condition.Truthy() ? Evaluate(*node.then) : EvaluateOptional(node.otherwise);
}

Result<Value> Evaluator::Eval(const AttributeExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object));
  if (object.is(Kind::kLoop)) return LoopAttribute(object.loop(), node.name);
  return GetAttribute(runtime_, object, node.name);
}

Result<Value> Evaluator::Eval(const SubscriptExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object));
  TC_ASSIGN_OR_RETURN(const Value index, Evaluate(*node.index));
  return GetSubscript(runtime_, object, index);
}

Result<Value> Evaluator::Eval(const SliceExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object));
  TC_ASSIGN_OR_RETURN(const Value begin, EvaluateOptional(node.begin));
  TC_ASSIGN_OR_RETURN(const Value end, EvaluateOptional(node.end));
  TC_ASSIGN_OR_RETURN(const Value step, EvaluateOptional(node.step));
  return Slice(runtime_, object, begin, end, step);
}

Result<Value> Evaluator::Eval(const FilterExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value input, Evaluate(*node.input));
  return ApplyFilter(node.use, input);
}

Result<Value> Evaluator::ApplyFilter(const FilterUse& use, const Value& input) {
  TC_ASSIGN_OR_RETURN(const EvaluatedArguments arguments, EvaluateArguments(use.arguments));
  return CallBuiltin(runtime_, *use.filter, input, arguments.view());
}

Result<Value> Evaluator::Eval(const TestExpr& node) {
  TC_ASSIGN_OR_RETURN(const Value input, Evaluate(*node.input));
  TC_ASSIGN_OR_RETURN(const EvaluatedArguments arguments, EvaluateArguments(node.arguments));
  return CallBuiltin(runtime_, *node.test, input, arguments.view());
}

Result<Evaluator::EvaluatedArguments> Evaluator::EvaluateArguments(const ArgumentList& arguments) {
  EvaluatedArguments evaluated;
  for (const ExprPtr& expr : arguments.positional) {
    TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*expr));
    evaluated.positional.push_back(value);
  }
  for (const auto& [name, expr] : arguments.named) {
    TC_ASSIGN_OR_RETURN(const Value value, Evaluate(*expr));
    evaluated.named.push_back({name, value});
  }
  return evaluated;
}

Result<Value> Evaluator::Eval(const CallExpr& node) {
  const auto* const attribute = std::get_if<AttributeExpr>(&node.callee->node);
  if (attribute != nullptr) {
    TC_ASSIGN_OR_RETURN(const Value object, Evaluate(*attribute->object));
    TC_ASSIGN_OR_RETURN(const EvaluatedArguments arguments, EvaluateArguments(node.arguments));
    return CallAttribute(object, attribute->name, arguments.view());
  }
  TC_ASSIGN_OR_RETURN(const Value callee, Evaluate(*node.callee));
  TC_ASSIGN_OR_RETURN(const EvaluatedArguments arguments, EvaluateArguments(node.arguments));
  return CallValue(callee, arguments.view());
}

Result<Value> Evaluator::CallAttribute(const Value& object, std::string_view name,
                                       const CallArguments& arguments) {
  if (object.is(Kind::kLoop)) return CallLoopMethod(object.loop(), name, arguments);
  if (const Builtin* const method = FindMethod(object.kind(), name)) {
    return CallBuiltin(runtime_, *method, object, arguments);
  }
  TC_ASSIGN_OR_RETURN(const Value callee, GetAttribute(runtime_, object, name));
  if (callee.is(Kind::kUndefined)) {
    return InvalidArgument(
        Str("value has no such method: ", Printable(name), Kv("type", object.TypeName())));
  }
  return CallValue(callee, arguments);
}

Result<Value> Evaluator::CallValue(const Value& callee, const CallArguments& arguments) {
  switch (callee.kind()) {
    case Kind::kFunction:
      return CallBuiltin(runtime_, callee.function(), Value(), arguments);
    case Kind::kMethod:
      return CallBuiltin(runtime_, *callee.method().method, callee.method().receiver, arguments);
    case Kind::kMacro:
      return CallMacro(callee.macro(), arguments);
    case Kind::kUndefined:
      return UndefinedError(callee);
    default:
      return InvalidArgument(Str("value cannot be called:", Kv("type", callee.TypeName())));
  }
}

Result<Value> Evaluator::CallMacro(const MacroObject& macro, const CallArguments& arguments) {
  TC_ASSIGN_OR_RETURN(Scope* const scope, runtime_.NewScope(macro.scope));
  Scope* const caller = std::exchange(scope_, scope);
  const Status bound = BindParameters(*macro.definition, arguments);
  Result<Value> result = bound.ok() ? Capture(macro.definition->body) : Result<Value>(bound);
  scope_ = caller;
  return result;
}

namespace {

// Every argument must have a parameter of its own.
Status CheckArguments(const MacroStatement& definition, const CallArguments& arguments) {
  const auto& parameters = definition.parameters;
  if (arguments.positional.size() > parameters.size()) {
    return InvalidArgument(Str("too many arguments: ", Printable(definition.name),
                               Kv("takes", parameters.size()),
                               Kv("got", arguments.positional.size())));
  }
  for (const NamedArgument& argument : arguments.named) {
    const auto free = parameters.begin() + static_cast<ptrdiff_t>(arguments.positional.size());
    const bool known = std::any_of(free, parameters.end(), [&](const auto& parameter) {
      return parameter.first == argument.name;
    });
    if (!known) {
      return InvalidArgument(Str("argument not known or given twice: ", Printable(definition.name),
                                 Kv("name", Printable(argument.name))));
    }
  }
  return OkStatus();
}

const Value* FindNamed(const CallArguments& arguments, std::string_view name) {
  for (const NamedArgument& argument : arguments.named) {
    if (argument.name == name) return &argument.value;
  }
  return nullptr;
}

}  // namespace

// Binds in the current scope, which is the macro's. A default may read the parameters before it.
Status Evaluator::BindParameters(const MacroStatement& definition, const CallArguments& arguments) {
  TC_RETURN_IF_ERROR(CheckArguments(definition, arguments));
  for (size_t i = 0; i < definition.parameters.size(); ++i) {
    const auto& [name, fallback] = definition.parameters[i];
    const Value* const named = FindNamed(arguments, name);
    Value value = Value::Undefined(name);
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (named != nullptr) {
      value = *named;
    } else if (fallback != nullptr) {
      TC_ASSIGN_OR_RETURN(value, Evaluate(*fallback));
    }
    TC_RETURN_IF_ERROR(runtime_.SetVariable(*scope_, name, value));
  }
  return OkStatus();
}

Result<Value> Evaluator::LoopAttribute(LoopState& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop.index);
  if (name == "index") return Value::Int(index + 1);
  if (name == "index0") return Value::Int(index);
  if (name == "first") return Value::Bool(index == 0);
  // Jinja counts recursive loops only, which do not exist here.
  if (name == "depth") return Value::Int(1);
  if (name == "depth0") return Value::Int(0);
  if (name == "previtem") {
    return index == 0 ? Value::Undefined("loop.previtem") : loop.ready()[loop.index - 1];
  }
  if (name == "last" || name == "nextitem") {
    TC_RETURN_IF_ERROR(Prefetch(loop, loop.index + 2));
    const bool is_last = loop.index + 1 >= loop.ready().size();
    if (name == "last") return Value::Bool(is_last);
    return is_last ? Value::Undefined("loop.nextitem") : loop.ready()[loop.index + 1];
  }
  const bool needs_length = name == "length" || name == "revindex" || name == "revindex0";
  if (!needs_length) return Value::Undefined(name);
  TC_RETURN_IF_ERROR(Prefetch(loop, SIZE_MAX));
  const auto n = static_cast<int64_t>(loop.ready().size());
  if (name == "length") return Value::Int(n);
  return Value::Int(name == "revindex" ? n - index : n - index - 1);
}

Result<Value> Evaluator::CallLoopMethod(LoopState& loop, std::string_view name,
                                        const CallArguments& arguments) {
  if (name == "cycle") {
    const auto items = arguments.positional;
    if (items.empty()) return InvalidArgument("loop.cycle needs items");
    return items[loop.index % items.size()];
  }
  if (name != "changed") {
    return InvalidArgument(Str("loop has no such method: ", Printable(name)));
  }
  TC_ASSIGN_OR_RETURN(const Value now, runtime_.NewTuple(arguments.positional));
  bool changed = true;
  if (loop.has_last_changed) {
    TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime_, now, Value::Tuple(loop.last_changed)));
    changed = !same;
  }
  loop.last_changed = now.items();
  loop.has_last_changed = true;
  return Value::Bool(changed);
}

}  // namespace thermocline::model::jinja
