// The values a template computes with. They follow Python's types, because templates are written
// for Jinja2.
//
// A Value is a small trivially copyable handle. The bytes behind strings, lists and dicts belong to
// the Runtime of one rendering, to the parsed template or to the caller's messages; all three
// outlive every Value. Nothing is freed one by one, so no destructor ever recurses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace thermocline::model::jinja {

class Dict;
class LoopState;
struct Builtin;
struct MacroObject;
struct MethodObject;
struct Namespace;

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kNamespace,
  kMacro,
  kMethod,
  kFunction,
  kLoop,
};

// Trivially copyable; thread-compatible.
class Value {
 public:
  Value() : Value(Kind::kUndefined) {}
  // `name` is what the template called the missing thing; it appears in errors.
  static Value Undefined(std::string_view name) { return Bytes(Kind::kUndefined, name); }
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool value);
  static Value Int(int64_t value);
  static Value Float(double value);
  static Value String(std::string_view text) { return Bytes(Kind::kString, text); }
  static Value List(std::span<const Value> items) { return Items(Kind::kList, items); }
  static Value Tuple(std::span<const Value> items) { return Items(Kind::kTuple, items); }
  static Value Of(const Dict* dict);
  static Value Of(Namespace* object);
  static Value Of(const MacroObject* macro);
  static Value Of(const MethodObject* method);
  static Value Of(const Builtin* function);
  static Value Of(LoopState* loop);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool is_number() const;  // int, float or bool, as in Python
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }

  // Each accessor requires the kind it names.
  bool boolean() const { return payload_.boolean; }
  int64_t integer() const;                                           // of an int or a bool
  double number() const;                                             // of any number
  std::string_view text() const { return {payload_.bytes, size_}; }  // also an undefined's name
  std::span<const Value> items() const { return {payload_.items, size_}; }
  const Dict& dict() const { return *payload_.dict; }
  Namespace& object() const { return *payload_.object; }
  const MacroObject& macro() const { return *payload_.macro; }
  const MethodObject& method() const { return *payload_.method; }
  const Builtin& function() const { return *payload_.function; }
  LoopState& loop() const { return *payload_.loop; }

  // Python's bool(value).
  bool Truthy() const;
  // Python's name of the type, for errors: "str", "NoneType".
  std::string_view TypeName() const;

 private:
  union Payload {
    bool boolean;
    int64_t integer;
    double real;
    const char* bytes;
    const Value* items;
    const Dict* dict;
    Namespace* object;
    const MacroObject* macro;
    const MethodObject* method;
    const Builtin* function;
    LoopState* loop;
  };

  explicit Value(Kind kind) : kind_(kind) { payload_.integer = 0; }
  static Value Bytes(Kind kind, std::string_view text);
  static Value Items(Kind kind, std::span<const Value> items);

  Payload payload_;
  size_t size_ = 0;
  Kind kind_;
};

struct Entry {
  Value key;
  Value value;
};

// Python's order among dict keys is only insertion order; this one exists for searching: none,
// numbers, strings. Returns <0, 0, >0. Both keys must satisfy IsKey.
int CompareKeys(const Value& a, const Value& b);
// None, numbers and strings can be keys; Python's tuples as keys are not supported.
bool IsKey(const Value& value);

// An immutable mapping in insertion order, stored in a Runtime.
class Dict {
 public:
  // `by_key` holds the entry numbers in key order, or is empty for a small dict.
  Dict(std::span<const Entry> entries, std::span<const uint32_t> by_key)
      : entries_(entries), by_key_(by_key) {}

  std::span<const Entry> entries() const { return entries_; }
  // nullptr when absent; `key` may be any value.
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const { return Find(Value::String(key)); }

 private:
  std::span<const Entry> entries_;
  std::span<const uint32_t> by_key_;
};

// A method taken off its object without being called (`x.items`).
struct MethodObject {
  Value receiver;
  const Builtin* method;
};

}  // namespace thermocline::model::jinja
