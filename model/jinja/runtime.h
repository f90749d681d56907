// The memory and the budgets of one rendering.
//
// Everything a template creates lives here until the rendering ends, and every byte and step is
// counted before it is taken: a template cannot use more memory or time than its limits, whatever
// it does.
#pragma once

#include <cstddef>
#include <deque>
#include <memory_resource>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/chat_template.h"
#include "model/jinja/loop_state.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// namespace(): the one mutable object of the language.
struct Namespace {
  std::vector<std::pair<std::string_view, Value>> attributes;
  const Value* Find(std::string_view name) const;
};

// The names visible at one place; `parent` is the enclosing scope or null.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;
};

// Owned by one Render call. Thread-compatible.
class Runtime {
 public:
  // `now_unix_s` is what strftime_now reads.
  Runtime(const ChatTemplateLimits& limits, int64_t now_unix_s)
      : limits_(limits), now_unix_s_(now_unix_s) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const ChatTemplateLimits& limits() const { return limits_; }
  int64_t now_unix_s() const { return now_unix_s_; }

  // kResourceExhausted when the step budget is spent.
  Status Step(size_t n = 1);
  // Counts work that grows with a text's length: one step per kBytesPerStep.
  Status Work(size_t bytes);
  // Counts bytes about to be stored; kResourceExhausted when the memory budget is spent.
  Status Charge(size_t bytes);
  size_t remaining_bytes() const { return limits_.max_heap_bytes - used_bytes_; }

  // Recursion depth of evaluation; see DepthGuard.
  Status Enter();
  void Leave() { --depth_; }

  // A copy of `text` that lives as long as the rendering.
  Result<Value> NewString(std::string_view text);
  // a + b. Appending again and again to the string made last costs only the bytes appended.
  Result<Value> Concat(std::string_view a, std::string_view b);
  Result<Value> NewList(std::span<const Value> items) { return NewItems(Kind::kList, items); }
  Result<Value> NewTuple(std::span<const Value> items) { return NewItems(Kind::kTuple, items); }
  // Of entries with equal keys the last value wins, in the first one's place.
  Result<Value> NewDict(std::span<const Entry> entries);
  Result<Namespace*> NewNamespace();
  Result<Scope*> NewScope(Scope* parent);
  Result<LoopState*> NewLoop(const ForStatement& statement, bool filtered,
                             std::span<const Value> items);
  // Sets or adds an attribute.
  Status SetAttribute(Namespace& object, std::string_view name, Value value);
  // Sets or adds a variable of this very scope.
  Status SetVariable(Scope& scope, std::string_view name, Value value);

  // A trivially destructible object that lives as long as the rendering.
  template <typename T>
  Result<const T*> New(T object) {
    static_assert(std::is_trivially_destructible_v<T>);
    TC_RETURN_IF_ERROR(Charge(sizeof(T)));
    return new (arena_.allocate(sizeof(T), alignof(T))) T(std::move(object));
  }

 private:
  // A step is about 100 ns; 256 bytes are scanned or copied in about as much.
  static constexpr size_t kBytesPerStep = 256;
  // A nested expression or statement costs several frames of evaluation and macros nest on top, so
  // evaluation may go this many times deeper than max_depth. About 1 MiB of stack.
  static constexpr int kEvaluationDepthFactor = 8;
  // Concatenations this long get room to grow; below it copying is cheaper than the waste.
  static constexpr size_t kGrowableBytes = 1024;

  Result<Value> NewItems(Kind kind, std::span<const Value> items);
  template <typename T>
  Result<std::span<T>> Copy(std::span<const T> items);

  const ChatTemplateLimits limits_;
  const int64_t now_unix_s_;
  size_t n_steps_ = 0;
  size_t used_bytes_ = 0;
  size_t partial_work_bytes_ = 0;
  int depth_ = 0;
  char* tail_ = nullptr;  // end of the last long concatenation
  size_t tail_room_bytes_ = 0;
  std::pmr::monotonic_buffer_resource arena_;
  std::deque<Namespace> namespaces_;
  std::deque<Scope> scopes_;
  std::deque<LoopState> loops_;
};

// One level of recursion: `DepthGuard guard(runtime); TC_RETURN_IF_ERROR(guard.status());`
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& runtime) : runtime_(runtime), status_(runtime.Enter()) {}
  ~DepthGuard() { runtime_.Leave(); }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;
  const Status& status() const { return status_; }

 private:
  Runtime& runtime_;
  const Status status_;
};

// Builds a string whose size is not known beforehand without ever exceeding the memory budget: what
// goes beyond is dropped and Finish fails.
class TextBuilder {
 public:
  explicit TextBuilder(Runtime& runtime)
      : runtime_(runtime), max_bytes_(runtime.remaining_bytes()) {}

  void Append(std::string_view text);
  void Append(char c) { Append(std::string_view(&c, 1)); }
  void AppendRepeated(std::string_view text, size_t n);
  void AppendCodePoint(uint32_t code_point);
  bool overflowed() const { return overflowed_; }
  Result<Value> Finish();

 private:
  Runtime& runtime_;
  const size_t max_bytes_;
  std::string text_;
  bool overflowed_ = false;
};

// The same for lists.
class ListBuilder {
 public:
  explicit ListBuilder(Runtime& runtime)
      : runtime_(runtime), max_items_(runtime.remaining_bytes() / sizeof(Value)) {}

  void Append(Value value);
  Result<Value> Finish();

 private:
  Runtime& runtime_;
  const size_t max_items_;
  std::vector<Value> items_;
  bool overflowed_ = false;
};

}  // namespace thermocline::model::jinja
