// Reads typed, ranged members out of a JSON object and remembers the first one that is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "coordinator/http/api_error.h"

namespace thermocline::coordinator::http {

// Absent and null members leave the destination as it is, which is the parameter's default. After
// the first error the other reads do nothing. Borrows the object. Thread-compatible.
class FieldReader {
 public:
  explicit FieldReader(const nlohmann::json& object) : object_(object) {}

  // The member, or nullptr when it is absent or null.
  const nlohmann::json* Find(const char* name);
  // Whether any read has asked for the member.
  bool HasAskedFor(std::string_view name) const { return asked_.contains(name); }

  void Bool(const char* name, bool* out);
  void String(const char* name, std::string* out);
  void Int(const char* name, int64_t min, int64_t max, std::optional<int64_t>* out);
  void Int(const char* name, int64_t min, int64_t max, int* out);
  // The bounds are allowed values.
  void Float(const char* name, double min, double max, float* out);

  void Fail(std::string param, std::string message, std::string code = "invalid_value");
  bool ok() const { return !error_.has_value(); }
  const std::optional<ApiError>& error() const { return error_; }

 private:
  void WrongType(const char* name, const char* wanted, const nlohmann::json& found);

  const nlohmann::json& object_;
  std::set<std::string, std::less<>> asked_;
  std::optional<ApiError> error_;
};

// The integer that `value` states, 16 and 16.0 alike; nullopt for anything else.
std::optional<int64_t> AsInteger(const nlohmann::json& value);

}  // namespace thermocline::coordinator::http
