#include "model/jinja/json_value.h"

#include <cstdint>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/str.h"

namespace thermocline::model::jinja {
namespace {

// Receives the parser's events and builds values bottom up, so that a document is never held twice.
// Returning false stops the parser; `status` then says why.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(Runtime& runtime) : runtime_(runtime) {}

  const Status& status() const { return status_; }
  const Value& result() const { return result_; }

  bool null() override { return Add(Value::None()); }
  bool boolean(bool value) override { return Add(Value::Bool(value)); }
  bool number_integer(int64_t value) override { return Add(Value::Int(value)); }
  bool number_unsigned(uint64_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(InvalidArgument(Str("integer does not fit 64 bits:", Kv("value", value))));
    }
    return Add(Value::Int(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string&) override { return Add(Value::Float(value)); }
  bool string(std::string& value) override { return AddResult(runtime_.NewString(value)); }
  bool binary(binary_t&) override { return Fail(Internal("binary value in JSON")); }

  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(std::string& name) override {
    auto stored = runtime_.NewString(name);
    if (!stored.ok()) return Fail(stored.status());
    open_.back().key = *stored;
    return true;
  }
  bool end_array() override {
    const Level level = Close();
    return AddResult(runtime_.NewList(level.items));
  }
  bool end_object() override {
    const Level level = Close();
    return AddResult(runtime_.NewDict(level.entries));
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return Fail(InvalidArgument(Str("text is not JSON:", Kv("byte", position))));
  }

 private:
  // A list or object that is not closed yet.
  struct Level {
    bool is_object = false;
    Value key;
    std::vector<Value> items;
    std::vector<Entry> entries;
  };

  bool Fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
    return false;
  }

  bool Open(bool is_object) {
    const auto max_depth = static_cast<size_t>(runtime_.limits().max_depth);
    if (open_.size() >= max_depth) {
      return Fail(InvalidArgument(Str("JSON nests too deeply:", Kv("max_depth", max_depth))));
    }
    open_.emplace_back().is_object = is_object;
    return true;
  }

  Level Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    return level;
  }

  bool AddResult(const Result<Value>& value) {
    return value.ok() ? Add(*value) : Fail(value.status());
  }

  bool Add(const Value& value) {
    if (open_.empty()) {
      result_ = value;
      return true;
    }
    Level& level = open_.back();
    // The growing copy counts like the final one.
    const Status charged = runtime_.Charge(level.is_object ? sizeof(Entry) : sizeof(Value));
    if (!charged.ok()) return Fail(charged);
    if (level.is_object) {
      level.entries.push_back({level.key, value});
    } else {
      level.items.push_back(value);
    }
    return true;
  }

  Runtime& runtime_;
  Status status_;
  Value result_;
  std::vector<Level> open_;
};

}  // namespace

Result<Value> ParseJson(Runtime& runtime, std::string_view text) {
  ValueBuilder builder(runtime);
  try {
    const bool parsed = nlohmann::json::sax_parse(text, &builder);
    TC_RETURN_IF_ERROR(builder.status());
    if (!parsed) return InvalidArgument("text is not JSON");
  } catch (const std::exception& error) {
    return InvalidArgument(Str("text is not JSON: ", Printable(error.what())));
  }
  return builder.result();
}

}  // namespace thermocline::model::jinja
