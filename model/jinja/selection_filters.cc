// Filters that apply a test or another filter to each item: select, reject, selectattr,
// rejectattr, map.
#include <array>

#include "base/str.h"
#include "model/jinja/attribute_path.h"
#include "model/jinja/filters.h"
#include "model/jinja/operators.h"
#include "model/jinja/tests.h"

namespace thermocline::model::jinja {
namespace {

// The test an item must pass: by name with arguments, or being true.
struct Condition {
  const Builtin* test = nullptr;
  CallArguments arguments;

  Result<bool> Holds(Runtime& runtime, const Value& value) const {
    TC_RETURN_IF_ERROR(runtime.Step());
    if (test == nullptr) return value.Truthy();
    TC_ASSIGN_OR_RETURN(const Value result, CallBuiltin(runtime, *test, value, arguments));
    return result.Truthy();
  }
};

// `arguments` are the name of the test and what it takes.
Result<Condition> ReadCondition(std::span<const Value> arguments,
                                std::span<const NamedArgument> named) {
  Condition condition;
  if (arguments.empty()) return condition;
  if (!arguments[0].is(Kind::kString)) {
    return InvalidArgument(Str("test must be a name:", Kv("got", arguments[0].TypeName())));
  }
  condition.test = FindTest(arguments[0].text());
  if (condition.test == nullptr) {
    return InvalidArgument(Str("template test not supported: ", Printable(arguments[0].text())));
  }
  condition.arguments = {arguments.subspan(1), named};
  return condition;
}

// The items for which the condition on the item, or on its attribute, is `wanted`.
Result<Value> Choose(Runtime& runtime, const Value& self, const CallArguments& call,
                     bool by_attribute, bool wanted) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  if (by_attribute && call.positional.empty()) return InvalidArgument("attribute missing");
  const size_t n_path = by_attribute ? 1 : 0;
  TC_ASSIGN_OR_RETURN(const Condition condition,
                      ReadCondition(call.positional.subspan(n_path), call.named));
  ListBuilder out(runtime);
  for (const Value& item : items) {
    Value subject = item;
    if (by_attribute) {
      TC_ASSIGN_OR_RETURN(subject, FollowPath(runtime, item, call.positional[0]));
    }
    TC_ASSIGN_OR_RETURN(const bool holds, condition.Holds(runtime, subject));
    if (holds == wanted) out.Append(item);
  }
  return out.Finish();
}

Result<Value> Select(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Choose(runtime, self, arguments.raw(), false, true);
}

Result<Value> Reject(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Choose(runtime, self, arguments.raw(), false, false);
}

Result<Value> SelectAttr(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Choose(runtime, self, arguments.raw(), true, true);
}

Result<Value> RejectAttr(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Choose(runtime, self, arguments.raw(), true, false);
}

Result<Value> MapAttribute(Runtime& runtime, std::span<const Value> items,
                           std::span<const NamedArgument> named) {
  Value path;
  Value fallback;
  for (const NamedArgument& argument : named) {
    if (argument.name == "attribute") {
      path = argument.value;
    } else if (argument.name == "default") {
      fallback = argument.value;
    } else {
      return InvalidArgument(Str("argument not known: map", Kv("name", argument.name)));
    }
  }
  ListBuilder out(runtime);
  for (const Value& item : items) {
    TC_ASSIGN_OR_RETURN(const Value value, FollowPath(runtime, item, path));
    out.Append(value.is(Kind::kUndefined) && !fallback.is(Kind::kUndefined) ? fallback : value);
  }
  return out.Finish();
}

Result<Value> Map(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  const CallArguments& call = arguments.raw();
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  if (call.positional.empty()) {
    if (call.named.empty()) return InvalidArgument("map needs a filter or an attribute");
    return MapAttribute(runtime, items, call.named);
  }
  if (!call.positional[0].is(Kind::kString)) {
    return InvalidArgument(Str("filter must be a name:", Kv("got", call.positional[0].TypeName())));
  }
  const Builtin* const filter = FindFilter(call.positional[0].text());
  if (filter == nullptr) {
    return InvalidArgument(
        Str("template filter not supported: ", Printable(call.positional[0].text())));
  }
  // Nested maps consume their names one by one; the guard makes the bound the usual one.
  const DepthGuard guard(runtime);
  TC_RETURN_IF_ERROR(guard.status());
  ListBuilder out(runtime);
  for (const Value& item : items) {
    TC_ASSIGN_OR_RETURN(const Value value, CallBuiltin(runtime, *filter, item,
                                                       {call.positional.subspan(1), call.named}));
    out.Append(value);
  }
  return out.Finish();
}

}  // namespace

std::span<const Builtin> SelectionFilters() {
  static constexpr std::array<Builtin, 5> kTable = {{
      {"map", Map, 0, {}, true},
      {"reject", Reject, 0, {}, true},
      {"rejectattr", RejectAttr, 0, {}, true},
      {"select", Select, 0, {}, true},
      {"selectattr", SelectAttr, 0, {}, true},
  }};
  return kTable;
}

}  // namespace thermocline::model::jinja
