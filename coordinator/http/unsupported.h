// The list of request features that other servers have and this one refuses by name, because
// dropping them silently would change what the client gets.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/field_reader.h"

namespace thermocline::coordinator::http {

inline constexpr char kUnsupportedCode[] = "unsupported_parameter";

// The first feature that `body` really asks for; members at their neutral value (null, false, [],
// "none") are fine.
std::optional<ApiError> FindUnsupported(const nlohmann::json& body);

// The members of a request's body that nothing here knows, a few at most: neither read by `reader`,
// nor a feature of above, nor a note of the client's to its provider (user, metadata).
std::vector<std::string> FindUnknown(const nlohmann::json& body, const FieldReader& reader);

// Says once of each unknown member that it has no effect. Thread-safe.
class UnknownFieldLog {
 public:
  void Warn(const std::vector<std::string>& names);

 private:
  Mutex mutex_;
  std::set<std::string> said_ GUARDED_BY(mutex_);
};

}  // namespace thermocline::coordinator::http
