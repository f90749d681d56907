// Errors as values: every operation that can fail returns a Status or a Result<T>.
//
// Peers die, queues fill and files lie; such failures are ordinary and are routed (retry, refuse,
// re-plan), across threads and C callbacks where an exception could not go.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace thermocline {

enum class StatusCode : uint8_t {
  kOk = 0,
  kInvalidArgument,    // the caller's input is wrong and stays wrong if repeated
  kNotFound,           // the named thing does not exist
  kDataLoss,           // bytes are corrupt or truncated
  kResourceExhausted,  // a queue, memory or budget is full; may succeed later
  kUnavailable,        // a peer, library or device is not there
  kDeadlineExceeded,   // a wait ended by its deadline
  kAborted,            // cancelled, or overtaken by a newer epoch
  kInternal,           // a bug of ours
};

std::string_view StatusCodeName(StatusCode code);

// A code and a message. Messages state the fact first and values last:
// `tensor outside file: blk.3.ffn_up.weight end=9183 file=9000`. Thread-compatible.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "invalid argument: unknown type: id=77"
  std::string ToString() const;
  // The same code with `context` put before the message; ok stays ok.
  Status WithContext(std::string_view context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }
Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status DataLoss(std::string message);
Status ResourceExhausted(std::string message);
Status Unavailable(std::string message);
Status DeadlineExceeded(std::string message);
Status Aborted(std::string message);
Status Internal(std::string message);
std::ostream& operator<<(std::ostream& out, const Status& status);

// Either a value or the Status that says why there is none. Shaped like std::expected, which C++20
// lacks. Reading the value of a failed Result is a bug and ends the process.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {  // NOLINT
    CHECK(!std::get<1>(state_).ok());
  }

  bool ok() const { return state_.index() == 0; }
  Status status() const { return ok() ? OkStatus() : std::get<1>(state_); }

  T& value() & { return CheckedValue(*this); }
  const T& value() const& { return CheckedValue(*this); }
  T&& value() && { return std::move(CheckedValue(*this)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  template <typename Self>
  static auto& CheckedValue(Self& self) {
    if (!self.ok()) CheckFailed(__FILE__, __LINE__, std::get<1>(self.state_).ToString());
    return std::get<0>(self.state_);
  }

  std::variant<T, Status> state_;
};

}  // namespace thermocline

#define TC_STATUS_CONCAT_INNER(a, b) a##b
#define TC_STATUS_CONCAT(a, b) TC_STATUS_CONCAT_INNER(a, b)

// Returns from the enclosing function if the Status expression failed.
#define TC_RETURN_IF_ERROR(expr)                                                     \
  do {                                                                               \
    if (::thermocline::Status tc_status = (expr); !tc_status.ok()) return tc_status; \
  } while (false)

// Assigns the value of a Result expression to `lhs`, or returns its Status.
#define TC_ASSIGN_OR_RETURN(lhs, expr) \
  TC_ASSIGN_OR_RETURN_INNER(TC_STATUS_CONCAT(tc_result_, __LINE__), lhs, expr)
#define TC_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                              \
  if (!result.ok()) return result.status();          \
  lhs = std::move(result).value()
