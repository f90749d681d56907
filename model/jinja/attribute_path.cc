#include "model/jinja/attribute_path.h"

#include <algorithm>
#include <charconv>

#include "base/str.h"
#include "model/jinja/methods.h"
#include "model/jinja/operators.h"

namespace thermocline::model::jinja {
namespace {

// The method of that name taken off the object, or undefined.
Result<Value> BindMethod(Runtime& runtime, const Value& object, std::string_view name) {
  const Builtin* const method = FindMethod(object.kind(), name);
  if (method == nullptr) return Value::Undefined(name);
  TC_ASSIGN_OR_RETURN(const MethodObject* const bound, runtime.New(MethodObject{object, method}));
  return Value::Of(bound);
}

Value PartIndex(std::string_view part) {
  int64_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  const bool is_number = error == std::errc() && end == part.data() + part.size() && index >= 0;
  return is_number ? Value::Int(index) : Value::String(part);
}

}  // namespace

Result<Value> GetAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is(Kind::kUndefined)) return UndefinedError(object);
  if (object.is(Kind::kNamespace)) {
    const Value* const found = object.object().Find(name);
    return found != nullptr ? *found : Value::Undefined(name);
  }
  TC_ASSIGN_OR_RETURN(const Value method, BindMethod(runtime, object, name));
  if (!method.is(Kind::kUndefined)) return method;
  return GetItem(runtime, object, Value::String(name));
}

Result<Value> GetSubscript(Runtime& runtime, const Value& object, const Value& index) {
  if (object.is(Kind::kNamespace)) {
    return index.is(Kind::kString) ? GetAttribute(runtime, object, index.text())
                                   : Value::Undefined("item");
  }
  TC_ASSIGN_OR_RETURN(const Value item, GetItem(runtime, object, index));
  if (!item.is(Kind::kUndefined) || !index.is(Kind::kString)) return item;
  return BindMethod(runtime, object, index.text());
}

Result<Value> FollowPath(Runtime& runtime, const Value& object, const Value& path) {
  TC_RETURN_IF_ERROR(runtime.Step());
  if (path.is_integral()) return GetSubscript(runtime, object, path);
  if (!path.is(Kind::kString)) {
    return InvalidArgument(Str("attribute must be a name:", Kv("got", path.TypeName())));
  }
  Value value = object;
  std::string_view rest = path.text();
  while (true) {
    TC_RETURN_IF_ERROR(runtime.Step());
    const size_t dot = std::min(rest.find('.'), rest.size());
    TC_ASSIGN_OR_RETURN(value, GetSubscript(runtime, value, PartIndex(rest.substr(0, dot))));
    if (dot == rest.size()) return value;
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace thermocline::model::jinja
