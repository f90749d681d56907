#include "model/jinja/runtime.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/str.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

// Up to this many entries a scan is as fast as a search.
constexpr size_t kUnindexedEntries = 8;

Value* Lookup(std::vector<std::pair<std::string_view, Value>>& names, std::string_view name) {
  for (auto& [key, value] : names) {
    if (key == name) return &value;
  }
  return nullptr;
}

Status OutOfMemory(size_t limit) {
  return ResourceExhausted(Str("template used up its memory:", Kv("max_bytes", limit)));
}

// Bytes that copying the entries and comparing their keys may touch: sorting compares each key
// about log2(n) times.
size_t SortingBytes(std::span<const Entry> entries) {
  size_t key_bytes = 0;
  for (const Entry& entry : entries) {
    if (entry.key.is(Kind::kString)) key_bytes += entry.key.text().size();
  }
  return entries.size_bytes() * 4 + key_bytes * static_cast<size_t>(std::bit_width(entries.size()));
}

// Entry numbers in key order; of equal keys the earliest first.
std::vector<uint32_t> KeyOrder(std::span<const Entry> entries) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return CompareKeys(entries[a].key, entries[b].key) < 0;
  });
  return order;
}

// The entries without repeated keys: the first place, the last value.
std::vector<Entry> Unique(std::span<const Entry> entries) {
  const std::vector<uint32_t> order = KeyOrder(entries);
  std::vector<Entry> kept(entries.begin(), entries.end());
  std::vector<bool> repeated(entries.size());
  size_t first = 0;
  for (size_t i = 1; i < order.size(); ++i) {
    if (CompareKeys(entries[order[i]].key, entries[order[first]].key) == 0) {
      kept[order[first]].value = entries[order[i]].value;
      repeated[order[i]] = true;
    } else {
      first = i;
    }
  }
  size_t n = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (!repeated[i]) kept[n++] = kept[i];
  }
  kept.resize(n);
  return kept;
}

}  // namespace

const Value* Namespace::Find(std::string_view name) const {
  for (const auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

Status Runtime::Step(size_t n) {
  n_steps_ += n;
  if (n_steps_ <= limits_.max_steps) return OkStatus();
  return ResourceExhausted(
      Str("template ran for too many steps:", Kv("max_steps", limits_.max_steps)));
}

Status Runtime::Work(size_t bytes) {
  partial_work_bytes_ += bytes;
  const size_t n = partial_work_bytes_ / kBytesPerStep;
  partial_work_bytes_ %= kBytesPerStep;
  return n == 0 ? OkStatus() : Step(n);
}

Status Runtime::Charge(size_t bytes) {
  if (bytes > remaining_bytes()) return OutOfMemory(limits_.max_heap_bytes);
  used_bytes_ += bytes;
  return OkStatus();
}

Status Runtime::Enter() {
  ++depth_;
  const int max = limits_.max_depth * kEvaluationDepthFactor;
  if (depth_ <= max) return OkStatus();
  return ResourceExhausted(Str("template nests too deeply while running:", Kv("max_depth", max)));
}

Result<Value> Runtime::NewString(std::string_view text) {
  if (text.empty()) return Value::String("");
  TC_RETURN_IF_ERROR(Work(text.size()));
  TC_ASSIGN_OR_RETURN(const std::span<char> copy, Copy(std::span(text.data(), text.size())));
  return Value::String({copy.data(), copy.size()});
}

Result<Value> Runtime::Concat(std::string_view a, std::string_view b) {
  if (a.empty()) return Value::String(b);
  if (b.empty()) return Value::String(a);
  if (a.data() + a.size() == tail_ && b.size() <= tail_room_bytes_) {
    TC_RETURN_IF_ERROR(Work(b.size()));
    std::memcpy(tail_, b.data(), b.size());
    tail_ += b.size();
    tail_room_bytes_ -= b.size();
    return Value::String({a.data(), a.size() + b.size()});
  }
  const size_t total = a.size() + b.size();
  const bool growable = total >= kGrowableBytes && total * 2 <= remaining_bytes();
  const size_t capacity = growable ? total * 2 : total;
  TC_RETURN_IF_ERROR(Work(total));
  TC_RETURN_IF_ERROR(Charge(capacity));
  char* const bytes = static_cast<char*>(arena_.allocate(capacity, 1));
  std::memcpy(bytes, a.data(), a.size());
  std::memcpy(bytes + a.size(), b.data(), b.size());
  if (growable) {
    tail_ = bytes + total;
    tail_room_bytes_ = capacity - total;
  }
  return Value::String({bytes, total});
}

template <typename T>
Result<std::span<T>> Runtime::Copy(std::span<const T> items) {
  if (items.empty()) return std::span<T>();
  TC_RETURN_IF_ERROR(Charge(items.size_bytes()));
  T* const copy = static_cast<T*>(arena_.allocate(items.size_bytes(), alignof(T)));
  std::uninitialized_copy(items.begin(), items.end(), copy);
  return std::span<T>(copy, items.size());
}

Result<Value> Runtime::NewItems(Kind kind, std::span<const Value> items) {
  TC_RETURN_IF_ERROR(Work(items.size_bytes()));
  TC_ASSIGN_OR_RETURN(const std::span<Value> copy, Copy(items));
  return kind == Kind::kList ? Value::List(copy) : Value::Tuple(copy);
}

Result<Value> Runtime::NewDict(std::span<const Entry> entries) {
  for (const Entry& entry : entries) {
    if (!IsKey(entry.key)) {
      return InvalidArgument(Str("type cannot be a dict key: ", entry.key.TypeName()));
    }
  }
  TC_RETURN_IF_ERROR(Work(SortingBytes(entries)));
  TC_RETURN_IF_ERROR(Charge(sizeof(Dict)));
  const std::vector<Entry> unique = Unique(entries);
  TC_ASSIGN_OR_RETURN(const std::span<Entry> kept, Copy(std::span<const Entry>(unique)));
  std::span<uint32_t> by_key;
  if (kept.size() > kUnindexedEntries) {
    const std::vector<uint32_t> order = KeyOrder(kept);
    TC_ASSIGN_OR_RETURN(by_key, Copy(std::span<const uint32_t>(order)));
  }
  return Value::Of(new (arena_.allocate(sizeof(Dict), alignof(Dict))) Dict(kept, by_key));
}

Result<Namespace*> Runtime::NewNamespace() {
  TC_RETURN_IF_ERROR(Charge(sizeof(Namespace)));
  return &namespaces_.emplace_back();
}

Result<Scope*> Runtime::NewScope(Scope* parent) {
  TC_RETURN_IF_ERROR(Charge(sizeof(Scope)));
  Scope& scope = scopes_.emplace_back();
  scope.parent = parent;
  return &scope;
}

Result<LoopState*> Runtime::NewLoop(const ForStatement& statement, bool filtered,
                                    std::span<const Value> items) {
  TC_RETURN_IF_ERROR(Charge(sizeof(LoopState)));
  return &loops_.emplace_back(statement, filtered, items);
}

Status Runtime::SetAttribute(Namespace& object, std::string_view name, Value value) {
  if (Value* const slot = Lookup(object.attributes, name)) {
    *slot = value;
    return OkStatus();
  }
  TC_RETURN_IF_ERROR(Charge(2 * sizeof(object.attributes[0])));  // vectors grow by doubling
  object.attributes.emplace_back(name, value);
  return OkStatus();
}

Status Runtime::SetVariable(Scope& scope, std::string_view name, Value value) {
  if (Value* const slot = Lookup(scope.variables, name)) {
    *slot = value;
    return OkStatus();
  }
  // A scope is emptied and filled again in each turn of a loop; only new room is charged.
  if (scope.variables.size() == scope.variables.capacity()) {
    TC_RETURN_IF_ERROR(Charge(2 * sizeof(scope.variables[0]) * (scope.variables.size() + 1)));
  }
  scope.variables.emplace_back(name, value);
  return OkStatus();
}

void TextBuilder::Append(std::string_view text) {
  if (text.size() > max_bytes_ - text_.size()) overflowed_ = true;
  if (!overflowed_) text_ += text;
}

void TextBuilder::AppendRepeated(std::string_view text, size_t n) {
  if (text.empty() || n == 0) return;
  if (n > (max_bytes_ - text_.size()) / text.size()) overflowed_ = true;
  if (overflowed_) return;
  for (size_t i = 0; i < n; ++i) text_ += text;
}

void TextBuilder::AppendCodePoint(uint32_t code_point) {
  std::string encoded;
  AppendUtf8(code_point, encoded);
  Append(encoded);
}

Result<Value> TextBuilder::Finish() {
  if (overflowed_) return OutOfMemory(runtime_.limits().max_heap_bytes);
  return runtime_.NewString(text_);
}

void ListBuilder::Append(Value value) {
  if (items_.size() >= max_items_) overflowed_ = true;
  if (!overflowed_) items_.push_back(value);
}

Result<Value> ListBuilder::Finish() {
  if (overflowed_) return OutOfMemory(runtime_.limits().max_heap_bytes);
  return runtime_.NewList(items_);
}

}  // namespace thermocline::model::jinja
