// Filters on numbers.
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string>

#include "base/str.h"
#include "model/jinja/filters.h"
#include "model/jinja/operators.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

Result<double> NumberOf(const Value& value) {
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  if (value.is_number()) return value.number();
  return InvalidArgument(Str("value is not a number:", Kv("type", value.TypeName())));
}

Result<Value> Abs(Runtime&, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const double number, NumberOf(self));
  if (self.is(Kind::kFloat)) return Value::Float(std::abs(number));
  return self.integer() < 0 ? Negate(self) : Value::Int(self.integer());
}

// A decimal literal as float() reads it, with blanks around it; false if it is none.
bool ParseFloat(std::string_view text, double& value) {
  text = TrimLeft(TrimRight(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseInteger(std::string_view text, int base, int64_t& value) {
  text = TrimLeft(TrimRight(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

bool FitsInteger(double number) { return std::abs(number) < 9.2e18; }

Result<Value> Int(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  if (self.is(Kind::kUndefined)) return UndefinedError(self);
  const Value fallback = arguments.Or(0, Value::Int(0));
  if (self.is_integral()) return Value::Int(self.integer());
  double number = 0;
  if (self.is(Kind::kString)) {
    TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
    TC_ASSIGN_OR_RETURN(const int64_t base, arguments.Integer(1, 10));
    if (base < 2 || base > 36) return fallback;
    int64_t value = 0;
    if (ParseInteger(self.text(), static_cast<int>(base), value)) return Value::Int(value);
    if (!ParseFloat(self.text(), number)) return fallback;
  } else if (self.is(Kind::kFloat)) {
    number = self.number();
  } else {
    return fallback;
  }
  if (!FitsInteger(number)) return fallback;
  return Value::Int(static_cast<int64_t>(number));
}

Result<Value> Float(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  if (self.is(Kind::kUndefined)) return UndefinedError(self);
  if (self.is_number()) return Value::Float(self.number());
  double number = 0;
  if (self.is(Kind::kString)) {
    TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
    if (ParseFloat(self.text(), number)) return Value::Float(number);
  }
  return arguments.Or(0, Value::Float(0));
}

// Half goes to the even neighbour, judged on the exact binary value, as Python's round does.
double RoundToDigits(double number, int64_t digits) {
  if (digits < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(number / scale) * scale;
  }
  // 310 digits before the point and kMaxDigits after it.
  std::array<char, 400> buffer;
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(digits), number);
  return std::strtod(buffer.data(), nullptr);
}

Result<Value> Round(Runtime&, const Value& self, const BoundArguments& arguments) {
  constexpr int64_t kMaxDigits = 40;  // a double has 17
  TC_ASSIGN_OR_RETURN(const double number, NumberOf(self));
  TC_ASSIGN_OR_RETURN(const int64_t digits, arguments.Integer(0, 0));
  TC_ASSIGN_OR_RETURN(const std::string_view method, arguments.Text(1, "common"));
  if (digits > kMaxDigits || digits < -kMaxDigits) {
    return InvalidArgument(Str("round precision out of range:", Kv("precision", digits)));
  }
  if (method == "common") {
    const double rounded = std::isfinite(number) ? RoundToDigits(number, digits) : number;
    // round() of an int stays an int.
    if (!self.is_integral()) return Value::Float(rounded);
    return digits >= 0 ? Value::Int(self.integer()) : Value::Int(static_cast<int64_t>(rounded));
  }
  if (method != "ceil" && method != "floor") {
    return InvalidArgument(Str("round method not known: ", Printable(method)));
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = number * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

}  // namespace

std::span<const Builtin> NumberFilters() {
  static constexpr std::array<Builtin, 4> kTable = {{
      {"abs", Abs},
      {"float", Float, 0, {"default"}},
      {"int", Int, 0, {"default", "base"}},
      {"round", Round, 0, {"precision", "method"}},
  }};
  return kTable;
}

}  // namespace thermocline::model::jinja
