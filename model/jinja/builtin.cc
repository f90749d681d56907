#include "model/jinja/builtin.h"

#include "base/str.h"

namespace thermocline::model::jinja {
namespace {

size_t ParameterIndex(const Builtin& builtin, std::string_view name) {
  for (size_t i = 0; i < kMaxParameters; ++i) {
    if (!builtin.parameters[i].empty() && builtin.parameters[i] == name) return i;
  }
  return kMaxParameters;
}

size_t ParameterCount(const Builtin& builtin) {
  size_t n = 0;
  while (n < kMaxParameters && !builtin.parameters[n].empty()) ++n;
  return n;
}

}  // namespace

Result<int64_t> BoundArguments::Integer(size_t i, int64_t fallback) const {
  if (!given_[i]) return fallback;
  if (values_[i].is_integral()) return values_[i].integer();
  return InvalidArgument(Str("argument must be an integer:", Kv("got", values_[i].TypeName())));
}

Result<std::string_view> BoundArguments::Text(size_t i, std::string_view fallback) const {
  if (!given_[i]) return fallback;
  if (values_[i].is(Kind::kString)) return values_[i].text();
  return InvalidArgument(Str("argument must be a string:", Kv("got", values_[i].TypeName())));
}

Result<BoundArguments> Bind(const Builtin& builtin, const CallArguments& arguments) {
  BoundArguments bound;
  bound.raw_ = arguments;
  if (builtin.variadic) return bound;
  if (arguments.positional.size() > ParameterCount(builtin)) {
    return InvalidArgument(Str("too many arguments: ", builtin.name,
                               Kv("takes", ParameterCount(builtin)),
                               Kv("got", arguments.positional.size())));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    bound.values_[i] = arguments.positional[i];
    bound.given_[i] = true;
  }
  for (const NamedArgument& argument : arguments.named) {
    const size_t i = ParameterIndex(builtin, argument.name);
    if (i == kMaxParameters || bound.given_[i]) {
      return InvalidArgument(
          Str(i == kMaxParameters ? "argument not known: " : "argument given twice: ", builtin.name,
              Kv("name", argument.name)));
    }
    bound.values_[i] = argument.value;
    bound.given_[i] = true;
  }
  for (size_t i = 0; i < builtin.n_required; ++i) {
    if (!bound.given_[i]) {
      return InvalidArgument(
          Str("argument missing: ", builtin.name, Kv("name", builtin.parameters[i])));
    }
  }
  return bound;
}

Result<Value> CallBuiltin(Runtime& runtime, const Builtin& builtin, const Value& self,
                          const CallArguments& arguments) {
  TC_RETURN_IF_ERROR(runtime.Step());
  TC_ASSIGN_OR_RETURN(const BoundArguments bound, Bind(builtin, arguments));
  return builtin.run(runtime, self, bound);
}

const Builtin* FindBuiltin(std::span<const Builtin> table, std::string_view name) {
  for (const Builtin& builtin : table) {
    if (builtin.name == name) return &builtin;
  }
  return nullptr;
}

}  // namespace thermocline::model::jinja
