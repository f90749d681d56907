#include "model/jinja/value.h"

#include <algorithm>

namespace thermocline::model::jinja {

Value Value::Bool(bool value) {
  Value result(Kind::kBool);
  result.payload_.boolean = value;
  return result;
}

Value Value::Int(int64_t value) {
  Value result(Kind::kInt);
  result.payload_.integer = value;
  return result;
}

Value Value::Float(double value) {
  Value result(Kind::kFloat);
  result.payload_.real = value;
  return result;
}

Value Value::Of(const Dict* dict) {
  Value result(Kind::kDict);
  result.payload_.dict = dict;
  return result;
}

Value Value::Of(Namespace* object) {
  Value result(Kind::kNamespace);
  result.payload_.object = object;
  return result;
}

Value Value::Of(const MacroObject* macro) {
  Value result(Kind::kMacro);
  result.payload_.macro = macro;
  return result;
}

Value Value::Of(const MethodObject* method) {
  Value result(Kind::kMethod);
  result.payload_.method = method;
  return result;
}

Value Value::Of(const Builtin* function) {
  Value result(Kind::kFunction);
  result.payload_.function = function;
  return result;
}

Value Value::Of(LoopState* loop) {
  Value result(Kind::kLoop);
  result.payload_.loop = loop;
  return result;
}

Value Value::Bytes(Kind kind, std::string_view text) {
  Value result(kind);
  result.payload_.bytes = text.data();
  result.size_ = text.size();
  return result;
}

Value Value::Items(Kind kind, std::span<const Value> items) {
  Value result(kind);
  result.payload_.items = items.data();
  result.size_ = items.size();
  return result;
}

bool Value::is_number() const {
  return kind_ == Kind::kInt || kind_ == Kind::kFloat || kind_ == Kind::kBool;
}

int64_t Value::integer() const {
  return kind_ == Kind::kBool ? int64_t{payload_.boolean} : payload_.integer;
}

double Value::number() const {
  return kind_ == Kind::kFloat ? payload_.real : static_cast<double>(integer());
}

bool Value::Truthy() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return payload_.boolean;
    case Kind::kInt:
      return payload_.integer != 0;
    case Kind::kFloat:
      return payload_.real != 0;
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
      return size_ != 0;
    case Kind::kDict:
      return !payload_.dict->entries().empty();
    default:
      return true;
  }
}

std::string_view Value::TypeName() const {
  switch (kind_) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kMethod:
      return "method";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
  }
  return "unknown";
}

namespace {

int KeyRank(const Value& key) {
  if (key.is(Kind::kNone)) return 0;
  return key.is_number() ? 1 : 2;
}

template <typename T>
int ThreeWay(const T& a, const T& b) {
  return a < b ? -1 : (b < a ? 1 : 0);
}

}  // namespace

bool IsKey(const Value& value) {
  return value.is(Kind::kNone) || value.is_number() || value.is(Kind::kString);
}

int CompareKeys(const Value& a, const Value& b) {
  if (KeyRank(a) != KeyRank(b)) return ThreeWay(KeyRank(a), KeyRank(b));
  if (a.is(Kind::kNone)) return 0;
  if (a.is(Kind::kString)) return a.text().compare(b.text());
  if (a.is_integral() && b.is_integral()) return ThreeWay(a.integer(), b.integer());
  return ThreeWay(a.number(), b.number());
}

const Value* Dict::Find(const Value& key) const {
  if (!IsKey(key)) return nullptr;
  if (by_key_.empty()) {
    for (const Entry& entry : entries_) {
      if (CompareKeys(entry.key, key) == 0) return &entry.value;
    }
    return nullptr;
  }
  const auto at = std::lower_bound(
      by_key_.begin(), by_key_.end(), key,
      [&](uint32_t i, const Value& wanted) { return CompareKeys(entries_[i].key, wanted) < 0; });
  if (at == by_key_.end() || CompareKeys(entries_[*at].key, key) != 0) return nullptr;
  return &entries_[*at].value;
}

}  // namespace thermocline::model::jinja
