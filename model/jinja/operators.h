// The operators of expressions, with Python's meaning.
//
// All fail with kInvalidArgument on operands that Python refuses, and on an integer result that
// does not fit 64 bits; with kResourceExhausted when a budget runs out.
#pragma once

#include <span>

#include "base/status.h"
#include "model/jinja/ast.h"
#include "model/jinja/runtime.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

// The error of using an undefined value: "'x' is undefined".
Status UndefinedError(const Value& undefined);

Result<Value> Arithmetic(Runtime& runtime, BinaryOp op, const Value& a, const Value& b);
Result<Value> Negate(const Value& value);
// 1 == 1.0 == true; lists and dicts by content; values of unlike types differ.
Result<bool> Equal(Runtime& runtime, const Value& a, const Value& b);
// a < b for numbers, strings, lists and tuples.
Result<bool> Less(Runtime& runtime, const Value& a, const Value& b);
// `needle in haystack`.
Result<bool> Contains(Runtime& runtime, const Value& haystack, const Value& needle);
Result<bool> Compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b);

// What iterating over `value` yields: items, dict keys, characters, nothing for undefined.
// kInvalidArgument: not iterable.
Result<std::span<const Value>> Iterate(Runtime& runtime, const Value& value);
// len(value); kInvalidArgument for a value without a length.
Result<int64_t> Length(Runtime& runtime, const Value& value);
// object[index] for positions and dict keys; undefined when there is no such item.
// kInvalidArgument: `object` is undefined.
Result<Value> GetItem(Runtime& runtime, const Value& object, const Value& index);
// object[begin:end:step]; an undefined or None bound is the default one.
Result<Value> Slice(Runtime& runtime, const Value& object, const Value& begin, const Value& end,
                    const Value& step);

}  // namespace thermocline::model::jinja
