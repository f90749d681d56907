// Where a for statement stands; what the variable `loop` looks at.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/jinja/value.h"

namespace thermocline::model::jinja {

struct ForStatement;
struct Scope;

// A loop with a filter tests its items only as far as it must look ahead, because the body may
// change what the filter reads. Owned by the Runtime, since a template may keep `loop` in a
// namespace after the loop's end. Thread-compatible.
class LoopState {
 public:
  LoopState(const ForStatement& statement, bool filtered, std::span<const Value> source)
      : statement_(&statement), source_(source), filtered_(filtered) {}

  const ForStatement& statement() const { return *statement_; }
  bool filtered() const { return filtered_; }

  // The items known to take part, so far.
  std::span<const Value> ready() const { return filtered() ? std::span(passed_) : source_; }
  // Whether items remain that the filter has not seen.
  bool has_untested() const { return filtered() && tested_ < source_.size(); }
  const Value& NextUntested() { return source_[tested_++]; }
  void AddPassed(const Value& item) { passed_.push_back(item); }

  // Number of the current item.
  size_t index = 0;
  // Where the filter binds the loop's targets; null without a filter.
  Scope* filter_scope = nullptr;
  // What loop.changed was last called with.
  std::span<const Value> last_changed;
  bool has_last_changed = false;

 private:
  const ForStatement* statement_;
  std::span<const Value> source_;
  bool filtered_;
  size_t tested_ = 0;
  std::vector<Value> passed_;
};

}  // namespace thermocline::model::jinja
