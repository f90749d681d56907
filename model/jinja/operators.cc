#include "model/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "base/str.h"
#include "model/jinja/printf_format.h"
#include "model/jinja/text_functions.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

std::string_view Symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSub:
      return "-";
    case BinaryOp::kMul:
      return "*";
    case BinaryOp::kDiv:
      return "/";
    case BinaryOp::kFloorDiv:
      return "//";
    case BinaryOp::kMod:
      return "%";
    case BinaryOp::kPow:
      return "**";
    case BinaryOp::kConcat:
      return "~";
  }
  return "?";
}

Status WrongTypes(std::string_view op, const Value& a, const Value& b) {
  if (a.is(Kind::kUndefined)) return UndefinedError(a);
  if (b.is(Kind::kUndefined)) return UndefinedError(b);
  return InvalidArgument(Str("operator does not take these types: ", op, Kv("left", a.TypeName()),
                             Kv("right", b.TypeName())));
}

Status Overflow() { return InvalidArgument("integer does not fit 64 bits"); }
Status ZeroDivision() { return InvalidArgument("division by zero"); }

// Python's integer division rounds towards minus infinity. b is not 0, and not -1 with a minimal.
int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Result<Value> IntPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return ZeroDivision();
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return Overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return Overflow();
  }
  return Value::Int(result);
}

Result<Value> IntArithmetic(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return Overflow();
      return Value::Int(result);
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return Overflow();
      return Value::Int(result);
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return Overflow();
      return Value::Int(result);
    case BinaryOp::kDiv:
      if (b == 0) return ZeroDivision();
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kPow:
      return IntPower(a, b);
    default:
      break;
  }
  if (b == 0) return ZeroDivision();
  if (b == -1) return op == BinaryOp::kMod ? Value::Int(0) : Negate(Value::Int(a));
  const int64_t quotient = FloorDivide(a, b);
  return Value::Int(op == BinaryOp::kMod ? a - quotient * b : quotient);
}

Result<Value> FloatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    default:
      break;
  }
  if (op == BinaryOp::kPow) {
    if (a == 0 && b < 0) return ZeroDivision();
    return Value::Float(std::pow(a, b));
  }
  if (b == 0) return ZeroDivision();
  if (op == BinaryOp::kDiv) return Value::Float(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == BinaryOp::kMod) return Value::Float(remainder);
  return Value::Float(std::floor((a - remainder) / b + 0.5));
}

Result<Value> AddSequences(Runtime& runtime, const Value& a, const Value& b) {
  ListBuilder out(runtime);
  for (const Value& item : a.items()) out.Append(item);
  for (const Value& item : b.items()) out.Append(item);
  TC_ASSIGN_OR_RETURN(const Value list, out.Finish());
  return a.is(Kind::kTuple) ? Value::Tuple(list.items()) : list;
}

Result<Value> Repeat(Runtime& runtime, const Value& what, int64_t n) {
  const size_t count = n > 0 ? static_cast<size_t>(n) : 0;
  if (what.is(Kind::kString)) {
    TextBuilder out(runtime);
    out.AppendRepeated(what.text(), count);
    return out.Finish();
  }
  ListBuilder out(runtime);
  const size_t n_items = what.items().size();
  if (n_items > 0 && count > runtime.remaining_bytes() / sizeof(Value) / n_items) {
    return ResourceExhausted(Str("list would use up the template's memory:", Kv("times", n)));
  }
  for (size_t i = 0; i < count && n_items > 0; ++i) {
    for (const Value& item : what.items()) out.Append(item);
  }
  TC_ASSIGN_OR_RETURN(const Value list, out.Finish());
  return what.is(Kind::kTuple) ? Value::Tuple(list.items()) : list;
}

bool Repeatable(const Value& value) { return value.is(Kind::kString) || value.is_sequence(); }

Result<bool> EqualItems(Runtime& runtime, std::span<const Value> a, std::span<const Value> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, a[i], b[i]));
    if (!same) return false;
  }
  return true;
}

// Looking a key up compares its text with that of other keys.
Status WorkOnKey(Runtime& runtime, const Value& key) {
  return key.is(Kind::kString) ? runtime.Work(key.text().size()) : OkStatus();
}

Result<bool> EqualDicts(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.entries().size() != b.entries().size()) return false;
  for (const Entry& entry : a.entries()) {
    TC_RETURN_IF_ERROR(WorkOnKey(runtime, entry.key));
    const Value* const other = b.Find(entry.key);
    if (other == nullptr) return false;
    TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, entry.value, *other));
    if (!same) return false;
  }
  return true;
}

Result<bool> LessItems(Runtime& runtime, std::span<const Value> a, std::span<const Value> b) {
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, a[i], b[i]));
    if (!same) return Less(runtime, a[i], b[i]);
  }
  return a.size() < b.size();
}

// Same identity, for kinds that are compared by it.
bool SameObject(const Value& a, const Value& b) {
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kNamespace:
      return &a.object() == &b.object();
    case Kind::kMacro:
      return &a.macro() == &b.macro();
    case Kind::kFunction:
      return &a.function() == &b.function();
    case Kind::kLoop:
      return &a.loop() == &b.loop();
    default:
      return false;
  }
}

Result<Value> CharacterAt(Runtime& runtime, std::string_view text, int64_t index) {
  TC_RETURN_IF_ERROR(runtime.Work(text.size()));
  if (index < 0) index += static_cast<int64_t>(CodePointCount(text));
  if (index < 0) return Value::Undefined("character");
  const size_t at = ByteOffset(text, static_cast<size_t>(index));
  if (at >= text.size()) return Value::Undefined("character");
  return Value::String(text.substr(at, CodePointBytes(text, at)));
}

// A slice bound moved into [low, high], negative ones counted from the end.
int64_t ClampBound(int64_t bound, int64_t n, int64_t low, int64_t high) {
  if (bound < 0) bound += n;
  return std::clamp(bound, low, high);
}

struct SliceRange {
  int64_t begin;
  int64_t step;
  int64_t count;
};

Result<int64_t> SliceBound(const Value& value, int64_t fallback) {
  if (value.is(Kind::kUndefined) || value.is(Kind::kNone)) return fallback;
  if (value.is_integral()) return value.integer();
  return InvalidArgument(Str("slice bound must be an integer:", Kv("got", value.TypeName())));
}

// Python's rules for the bounds of a sequence of n items.
Result<SliceRange> ResolveSlice(int64_t n, const Value& begin, const Value& end,
                                const Value& step_value) {
  TC_ASSIGN_OR_RETURN(int64_t step, SliceBound(step_value, 1));
  if (step == 0) return InvalidArgument("slice step is zero");
  // Longer steps than the sequence are all alike; keeping them small avoids overflow.
  step = std::clamp<int64_t>(step, -n - 1, n + 1);
  const bool forward = step > 0;
  TC_ASSIGN_OR_RETURN(int64_t first, SliceBound(begin, forward ? 0 : n - 1));
  const bool open_end = end.is(Kind::kUndefined) || end.is(Kind::kNone);
  TC_ASSIGN_OR_RETURN(int64_t last, SliceBound(end, forward ? n : 0));
  first = forward ? ClampBound(first, n, 0, n) : ClampBound(first, n, -1, n - 1);
  if (open_end && !forward) {
    last = -1;
  } else {
    last = forward ? ClampBound(last, n, 0, n) : ClampBound(last, n, -1, n - 1);
  }
  const int64_t distance = forward ? last - first : first - last;
  const int64_t stride = forward ? step : -step;
  return SliceRange{first, step, distance > 0 ? (distance + stride - 1) / stride : 0};
}

Result<Value> SliceText(Runtime& runtime, std::string_view text, const SliceRange& range,
                        std::span<const Value> characters) {
  if (range.step == 1) {
    const size_t begin = ByteOffset(text, static_cast<size_t>(range.begin));
    const std::string_view rest = text.substr(begin);
    return Value::String(rest.substr(0, ByteOffset(rest, static_cast<size_t>(range.count))));
  }
  TextBuilder out(runtime);
  for (int64_t i = 0; i < range.count; ++i) {
    out.Append(characters[static_cast<size_t>(range.begin + i * range.step)].text());
  }
  return out.Finish();
}

Result<Value> SliceItems(Runtime& runtime, const Value& object, const SliceRange& range) {
  const std::span<const Value> items = object.items();
  const bool is_list = object.is(Kind::kList);
  if (range.step == 1) {
    const auto part =
        items.subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.count));
    return is_list ? Value::List(part) : Value::Tuple(part);
  }
  ListBuilder out(runtime);
  for (int64_t i = 0; i < range.count; ++i) {
    out.Append(items[static_cast<size_t>(range.begin + i * range.step)]);
  }
  TC_ASSIGN_OR_RETURN(const Value list, out.Finish());
  return is_list ? list : Value::Tuple(list.items());
}

Result<Value> Characters(Runtime& runtime, std::string_view text) {
  ListBuilder out(runtime);
  for (size_t at = 0; at < text.size();) {
    const size_t n = CodePointBytes(text, at);
    out.Append(Value::String(text.substr(at, n)));
    at += n;
  }
  return out.Finish();
}

}  // namespace

Status UndefinedError(const Value& undefined) {
  const std::string_view name = undefined.text();
  return InvalidArgument(name.empty() ? "value is undefined"
                                      : Str("'", Printable(name), "' is undefined"));
}

Result<Value> Arithmetic(Runtime& runtime, BinaryOp op, const Value& a, const Value& b) {
  if (op == BinaryOp::kConcat) {
    TC_ASSIGN_OR_RETURN(const Value left, ToText(runtime, a));
    TC_ASSIGN_OR_RETURN(const Value right, ToText(runtime, b));
    return runtime.Concat(left.text(), right.text());
  }
  if (a.is_integral() && b.is_integral()) return IntArithmetic(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return FloatArithmetic(op, a.number(), b.number());
  if (op == BinaryOp::kMod && a.is(Kind::kString)) return PrintfFormat(runtime, a.text(), b);
  if (op == BinaryOp::kAdd && a.is(Kind::kString) && b.is(Kind::kString)) {
    return runtime.Concat(a.text(), b.text());
  }
  if (op == BinaryOp::kAdd && a.is_sequence() && a.kind() == b.kind()) {
    return AddSequences(runtime, a, b);
  }
  if (op == BinaryOp::kMul && Repeatable(a) && b.is_integral()) {
    return Repeat(runtime, a, b.integer());
  }
  if (op == BinaryOp::kMul && Repeatable(b) && a.is_integral()) {
    return Repeat(runtime, b, a.integer());
  }
  return WrongTypes(Symbol(op), a, b);
}

Result<Value> Negate(const Value& value) {
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  if (value.is(Kind::kFloat)) return Value::Float(-value.number());
  if (!value.is_integral()) {
    return InvalidArgument(Str("minus takes a number:", Kv("got", value.TypeName())));
  }
  int64_t result = 0;
  if (__builtin_sub_overflow(int64_t{0}, value.integer(), &result)) return Overflow();
  return Value::Int(result);
}

Result<bool> Equal(Runtime& runtime, const Value& a, const Value& b) {
  TC_RETURN_IF_ERROR(runtime.Step());
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.kind() != b.kind()) return false;
  const DepthGuard guard(runtime);
  TC_RETURN_IF_ERROR(guard.status());
  switch (a.kind()) {
    case Kind::kString:
      if (a.text().size() != b.text().size()) return false;
      TC_RETURN_IF_ERROR(runtime.Work(a.text().size()));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return EqualItems(runtime, a.items(), b.items());
    case Kind::kDict:
      return EqualDicts(runtime, a.dict(), b.dict());
    default:
      return SameObject(a, b);
  }
}

Result<bool> Less(Runtime& runtime, const Value& a, const Value& b) {
  TC_RETURN_IF_ERROR(runtime.Step());
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    TC_RETURN_IF_ERROR(runtime.Work(std::min(a.text().size(), b.text().size())));
    return a.text() < b.text();  // UTF-8 sorts as its code points do
  }
  if (!a.is_sequence() || a.kind() != b.kind()) return WrongTypes("<", a, b);
  const DepthGuard guard(runtime);
  TC_RETURN_IF_ERROR(guard.status());
  return LessItems(runtime, a.items(), b.items());
}

Result<bool> Contains(Runtime& runtime, const Value& haystack, const Value& needle) {
  switch (haystack.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!needle.is(Kind::kString)) return WrongTypes("in", needle, haystack);
      TC_RETURN_IF_ERROR(runtime.Work(haystack.text().size()));
      return FindText(haystack.text(), needle.text()) != std::string_view::npos;
    case Kind::kDict:
      TC_RETURN_IF_ERROR(WorkOnKey(runtime, needle));
      return haystack.dict().Find(needle) != nullptr;
    case Kind::kList:
    case Kind::kTuple:
      for (const Value& item : haystack.items()) {
        TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, item, needle));
        if (same) return true;
      }
      return false;
    default:
      return WrongTypes("in", needle, haystack);
  }
}

Result<bool> Compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b) {
  const auto negated = [](Result<bool> result) {
    return result.ok() ? Result<bool>(!*result) : result;
  };
  // a <= b is "a < b or a == b" and not "not b < a", which differ for NaN.
  const auto or_equal = [&](Result<bool> less) {
    return !less.ok() || *less ? less : Equal(runtime, a, b);
  };
  switch (op) {
    case CompareOp::kEq:
      return Equal(runtime, a, b);
    case CompareOp::kNe:
      return negated(Equal(runtime, a, b));
    case CompareOp::kLt:
      return Less(runtime, a, b);
    case CompareOp::kGt:
      return Less(runtime, b, a);
    case CompareOp::kLe:
      return or_equal(Less(runtime, a, b));
    case CompareOp::kGe:
      return or_equal(Less(runtime, b, a));
    case CompareOp::kIn:
      return Contains(runtime, b, a);
    case CompareOp::kNotIn:
      return negated(Contains(runtime, b, a));
  }
  return false;
}

Result<std::span<const Value>> Iterate(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return std::span<const Value>();
    case Kind::kList:
    case Kind::kTuple:
      return value.items();
    case Kind::kString: {
      TC_ASSIGN_OR_RETURN(const Value characters, Characters(runtime, value.text()));
      return characters.items();
    }
    case Kind::kDict: {
      ListBuilder keys(runtime);
      for (const Entry& entry : value.dict().entries()) keys.Append(entry.key);
      TC_ASSIGN_OR_RETURN(const Value list, keys.Finish());
      return list.items();
    }
    default:
      return InvalidArgument(Str("value cannot be iterated:", Kv("type", value.TypeName())));
  }
}

Result<int64_t> Length(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      TC_RETURN_IF_ERROR(runtime.Work(value.text().size()));
      return static_cast<int64_t>(CodePointCount(value.text()));
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries().size());
    default:
      return InvalidArgument(Str("value has no length:", Kv("type", value.TypeName())));
  }
}

Result<Value> GetItem(Runtime& runtime, const Value& object, const Value& index) {
  if (object.is(Kind::kUndefined)) return UndefinedError(object);
  if (object.is(Kind::kDict)) {
    TC_RETURN_IF_ERROR(WorkOnKey(runtime, index));
    const Value* const found = object.dict().Find(index);
    if (found != nullptr) return *found;
    return Value::Undefined(index.is(Kind::kString) ? index.text() : "dict item");
  }
  if (!index.is_integral())
    return Value::Undefined(index.is(Kind::kString) ? index.text() : "item");
  if (object.is(Kind::kString)) return CharacterAt(runtime, object.text(), index.integer());
  if (!object.is_sequence()) return Value::Undefined("item");
  const auto n = static_cast<int64_t>(object.items().size());
  const int64_t at = index.integer() < 0 ? index.integer() + n : index.integer();
  if (at < 0 || at >= n) return Value::Undefined("list item");
  return object.items()[static_cast<size_t>(at)];
}

Result<Value> Slice(Runtime& runtime, const Value& object, const Value& begin, const Value& end,
                    const Value& step) {
  if (object.is(Kind::kUndefined)) return UndefinedError(object);
  if (!Repeatable(object)) return Value::Undefined("slice");
  TC_ASSIGN_OR_RETURN(const int64_t n, Length(runtime, object));
  TC_ASSIGN_OR_RETURN(const SliceRange range, ResolveSlice(n, begin, end, step));
  TC_RETURN_IF_ERROR(runtime.Work(static_cast<size_t>(n)));
  if (object.is_sequence()) return SliceItems(runtime, object, range);
  std::span<const Value> characters;
  if (range.step != 1) {
    TC_ASSIGN_OR_RETURN(characters, Iterate(runtime, object));
  }
  return SliceText(runtime, object.text(), range, characters);
}

}  // namespace thermocline::model::jinja
