#include "model/jinja/tests.h"

#include <array>

#include "base/str.h"
#include "model/jinja/filters.h"
#include "model/jinja/operators.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

template <Kind kind>
Result<Value> IsKind(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(self.is(kind));
}

Result<Value> IsDefined(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(!self.is(Kind::kUndefined));
}

Result<Value> IsNumber(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(self.is_number());
}

Result<Value> IsTrue(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(self.is(Kind::kBool) && self.boolean());
}

Result<Value> IsFalse(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(self.is(Kind::kBool) && !self.boolean());
}

bool HasItems(const Value& value) {
  return value.is(Kind::kString) || value.is_sequence() || value.is(Kind::kDict);
}

Result<Value> IsSequence(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(HasItems(self) || self.is(Kind::kUndefined));
}

Result<Value> IsIterable(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(HasItems(self) || self.is(Kind::kUndefined) || self.is(Kind::kLoop));
}

Result<Value> IsCallable(Runtime&, const Value& self, const BoundArguments&) {
  const Kind kind = self.kind();
  return Value::Bool(kind == Kind::kMacro || kind == Kind::kMethod || kind == Kind::kFunction ||
                     kind == Kind::kUndefined);
}

// self modulo `divisor`, for odd, even and divisibleby.
Result<Value> Remainder(Runtime& runtime, const Value& self, const Value& divisor) {
  if (!self.is(Kind::kUndefined) && !self.is_number()) {
    return InvalidArgument(Str("test needs a number:", Kv("got", self.TypeName())));
  }
  return Arithmetic(runtime, BinaryOp::kMod, self, divisor);
}

Result<Value> IsOdd(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const Value remainder, Remainder(runtime, self, Value::Int(2)));
  return Value::Bool(remainder.number() == 1);
}

Result<Value> IsEven(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const Value remainder, Remainder(runtime, self, Value::Int(2)));
  return Value::Bool(remainder.number() == 0);
}

Result<Value> IsDivisibleBy(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const Value remainder, Remainder(runtime, self, arguments[0]));
  return Value::Bool(remainder.number() == 0);
}

template <CompareOp op>
Result<Value> Compares(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const bool holds, Compare(runtime, op, self, arguments[0]));
  return Value::Bool(holds);
}

// Whether the text has letters and all of them are what `fold` makes of them.
Result<Value> HasCase(Runtime& runtime, const Value& self, uint32_t (*fold)(uint32_t)) {
  if (!self.is(Kind::kString)) return Value::Bool(false);
  const std::string_view text = self.text();
  TC_RETURN_IF_ERROR(runtime.Work(text.size()));
  bool has_cased = false;
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) {
    const uint32_t c = CodePointAt(text, at);
    if (fold(c) != c) return Value::Bool(false);
    has_cased = has_cased || ToUpper(c) != ToLower(c);
  }
  return Value::Bool(has_cased);
}

Result<Value> IsLower(Runtime& runtime, const Value& self, const BoundArguments&) {
  return HasCase(runtime, self, ToLower);
}

Result<Value> IsUpper(Runtime& runtime, const Value& self, const BoundArguments&) {
  return HasCase(runtime, self, ToUpper);
}

// Python's `is`: the same object. Equal small constants count as one.
Result<Value> IsSameAs(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  const Value& other = arguments[0];
  if (self.kind() != other.kind()) return Value::Bool(false);
  if (self.is_sequence()) {
    return Value::Bool(self.items().data() == other.items().data() &&
                       self.items().size() == other.items().size());
  }
  if (self.is(Kind::kDict)) return Value::Bool(&self.dict() == &other.dict());
  TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, self, other));
  return Value::Bool(same);
}

Result<Value> IsFilter(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(self.is(Kind::kString) && FindFilter(self.text()) != nullptr);
}

Result<Value> IsTest(Runtime&, const Value& self, const BoundArguments&) {
  return Value::Bool(self.is(Kind::kString) && FindTest(self.text()) != nullptr);
}

constexpr std::array<Builtin, 38> kTable = {{
    {"!=", Compares<CompareOp::kNe>, 1, {"other"}},
    {"<", Compares<CompareOp::kLt>, 1, {"other"}},
    {"<=", Compares<CompareOp::kLe>, 1, {"other"}},
    {"==", Compares<CompareOp::kEq>, 1, {"other"}},
    {">", Compares<CompareOp::kGt>, 1, {"other"}},
    {">=", Compares<CompareOp::kGe>, 1, {"other"}},
    {"boolean", IsKind<Kind::kBool>},
    {"callable", IsCallable},
    {"defined", IsDefined},
    {"divisibleby", IsDivisibleBy, 1, {"num"}},
    {"eq", Compares<CompareOp::kEq>, 1, {"other"}},
    {"equalto", Compares<CompareOp::kEq>, 1, {"other"}},
    {"even", IsEven},
    {"false", IsFalse},
    {"filter", IsFilter},
    {"float", IsKind<Kind::kFloat>},
    {"ge", Compares<CompareOp::kGe>, 1, {"other"}},
    {"greaterthan", Compares<CompareOp::kGt>, 1, {"other"}},
    {"gt", Compares<CompareOp::kGt>, 1, {"other"}},
    {"in", Compares<CompareOp::kIn>, 1, {"seq"}},
    {"integer", IsKind<Kind::kInt>},
    {"iterable", IsIterable},
    {"le", Compares<CompareOp::kLe>, 1, {"other"}},
    {"lessthan", Compares<CompareOp::kLt>, 1, {"other"}},
    {"lower", IsLower},
    {"lt", Compares<CompareOp::kLt>, 1, {"other"}},
    {"mapping", IsKind<Kind::kDict>},
    {"ne", Compares<CompareOp::kNe>, 1, {"other"}},
    {"none", IsKind<Kind::kNone>},
    {"number", IsNumber},
    {"odd", IsOdd},
    {"sameas", IsSameAs, 1, {"other"}},
    {"sequence", IsSequence},
    {"string", IsKind<Kind::kString>},
    {"test", IsTest},
    {"true", IsTrue},
    {"undefined", IsKind<Kind::kUndefined>},
    {"upper", IsUpper},
}};

}  // namespace

const Builtin* FindTest(std::string_view name) { return FindBuiltin(kTable, name); }

}  // namespace thermocline::model::jinja
