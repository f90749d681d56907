// What filters, tests, methods and functions have in common: a name, a parameter list and a C++
// function. Their tables are constant; lookups are exact.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "base/status.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

struct NamedArgument {
  std::string_view name;
  Value value;
};

// The arguments of one call, as written; what an expression evaluates them into.
struct CallArguments {
  std::span<const Value> positional;
  std::span<const NamedArgument> named;
};

// No built-in has more parameters.
inline constexpr size_t kMaxParameters = 5;

// Arguments sorted into the parameters of a built-in.
class BoundArguments {
 public:
  // Whether argument `i` was given.
  bool Has(size_t i) const { return given_[i]; }
  // The argument, or an undefined value.
  const Value& operator[](size_t i) const { return values_[i]; }
  Value Or(size_t i, Value fallback) const { return given_[i] ? values_[i] : fallback; }
  // Whether argument `i` was given and is true.
  bool Flag(size_t i) const { return given_[i] && values_[i].Truthy(); }
  // An integer argument; kInvalidArgument when it is something else.
  Result<int64_t> Integer(size_t i, int64_t fallback) const;
  // A text argument; kInvalidArgument when it is something else.
  Result<std::string_view> Text(size_t i, std::string_view fallback) const;
  // The call as written; what variadic built-ins read.
  const CallArguments& raw() const { return raw_; }

 private:
  friend Result<BoundArguments> Bind(const Builtin&, const CallArguments&);

  std::array<Value, kMaxParameters> values_;
  std::array<bool, kMaxParameters> given_{};
  CallArguments raw_;
};

// `self` is what a filter or test is applied to, or a method's object; undefined for a function.
using BuiltinFunction = Result<Value> (*)(Runtime&, const Value& self, const BoundArguments&);

struct Builtin {
  std::string_view name;
  BuiltinFunction run = nullptr;
  size_t n_required = 0;
  std::array<std::string_view, kMaxParameters> parameters{};
  bool variadic = false;  // takes any arguments and reads raw()
};

// kInvalidArgument: too many or too few arguments, or an unknown or repeated name.
Result<BoundArguments> Bind(const Builtin& builtin, const CallArguments& arguments);

Result<Value> CallBuiltin(Runtime& runtime, const Builtin& builtin, const Value& self,
                          const CallArguments& arguments);

// The entry of that name in a table, or nullptr.
const Builtin* FindBuiltin(std::span<const Builtin> table, std::string_view name);

}  // namespace thermocline::model::jinja
