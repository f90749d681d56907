#include "coordinator/http/field_reader.h"

#include <cmath>

#include "base/str.h"

namespace thermocline::coordinator::http {

std::optional<int64_t> AsInteger(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  // 2^53: beyond it doubles skip integers.
  if (std::abs(number) > 0x1p53 || std::floor(number) != number) return std::nullopt;
  return static_cast<int64_t>(number);
}

const nlohmann::json* FieldReader::Find(const char* name) {
  asked_.insert(name);
  const auto it = object_.find(name);
  if (it == object_.end() || it->is_null()) return nullptr;
  return &*it;
}

void FieldReader::Fail(std::string param, std::string message, std::string code) {
  if (ok()) error_ = BadParameter(std::move(param), std::move(message), std::move(code));
}

void FieldReader::WrongType(const char* name, const char* wanted, const nlohmann::json& found) {
  Fail(name, Str(name, " must be ", wanted, ", not ", found.type_name()), "invalid_type");
}

void FieldReader::Bool(const char* name, bool* out) {
  const nlohmann::json* value = Find(name);
  if (!value) return;
  if (!value->is_boolean()) return WrongType(name, "a boolean", *value);
  *out = value->get<bool>();
}

void FieldReader::String(const char* name, std::string* out) {
  const nlohmann::json* value = Find(name);
  if (!value) return;
  if (!value->is_string()) return WrongType(name, "a string", *value);
  *out = value->get<std::string>();
}

void FieldReader::Int(const char* name, int64_t min, int64_t max, std::optional<int64_t>* out) {
  const nlohmann::json* value = Find(name);
  if (!value) return;
  const std::optional<int64_t> number = AsInteger(*value);
  if (!number) return WrongType(name, "an integer of 64 bits", *value);
  if (*number < min || *number > max) {
    return Fail(name, Str(name, " must be in [", min, ", ", max, "]:", Kv(name, *number)));
  }
  *out = number;
}

void FieldReader::Int(const char* name, int64_t min, int64_t max, int* out) {
  std::optional<int64_t> number;
  Int(name, min, max, &number);
  if (number) *out = static_cast<int>(*number);
}

void FieldReader::Float(const char* name, double min, double max, float* out) {
  const nlohmann::json* value = Find(name);
  if (!value) return;
  if (!value->is_number()) return WrongType(name, "a number", *value);
  const auto number = value->get<double>();
  if (!(number >= min && number <= max)) {
    return Fail(name, Str(name, " must be in [", min, ", ", max, "]:", Kv(name, number)));
  }
  *out = static_cast<float>(number);
}

}  // namespace thermocline::coordinator::http
