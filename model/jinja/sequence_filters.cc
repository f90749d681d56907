// Filters on lists, dicts and strings as sequences, and the default value.
#include <algorithm>
#include <array>
#include <vector>

#include "base/str.h"
#include "model/jinja/attribute_path.h"
#include "model/jinja/filters.h"
#include "model/jinja/operators.h"
#include "model/jinja/text_functions.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

Result<Value> Default(Runtime&, const Value& self, const BoundArguments& arguments) {
  const bool use = self.is(Kind::kUndefined) || (arguments.Flag(1) && !self.Truthy());
  return use ? arguments.Or(0, Value::String("")) : self;
}

Result<Value> LengthFilter(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const int64_t n, Length(runtime, self));
  return Value::Int(n);
}

Result<Value> List(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  return Value::List(items);
}

Result<Value> Pairs(Runtime& runtime, const Dict& dict) {
  ListBuilder out(runtime);
  for (const Entry& entry : dict.entries()) {
    TC_ASSIGN_OR_RETURN(const Value pair, runtime.NewTuple(std::array{entry.key, entry.value}));
    out.Append(pair);
  }
  return out.Finish();
}

Result<Value> Items(Runtime& runtime, const Value& self, const BoundArguments&) {
  if (self.is(Kind::kUndefined)) return Value::List({});
  if (!self.is(Kind::kDict)) {
    return InvalidArgument(Str("items takes a mapping:", Kv("got", self.TypeName())));
  }
  return Pairs(runtime, self.dict());
}

Result<Value> First(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  return items.empty() ? Value::Undefined("first item") : items.front();
}

Result<Value> Last(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  return items.empty() ? Value::Undefined("last item") : items.back();
}

Result<Value> Reverse(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  ListBuilder out(runtime);
  for (size_t i = items.size(); i > 0; --i) out.Append(items[i - 1]);
  TC_ASSIGN_OR_RETURN(const Value list, out.Finish());
  return self.is(Kind::kString) ? JoinText(runtime, "", list.items()) : list;
}

Result<Value> Join(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  TC_ASSIGN_OR_RETURN(const Value separator, ToText(runtime, arguments[0]));
  if (!arguments.Has(1)) return JoinText(runtime, separator.text(), items);
  ListBuilder parts(runtime);
  for (const Value& item : items) {
    TC_ASSIGN_OR_RETURN(const Value part, FollowPath(runtime, item, arguments[1]));
    parts.Append(part);
  }
  TC_ASSIGN_OR_RETURN(const Value list, parts.Finish());
  return JoinText(runtime, separator.text(), list.items());
}

Result<Value> Batch(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  TC_ASSIGN_OR_RETURN(const int64_t size, arguments.Integer(0, 1));
  if (size < 1) return InvalidArgument(Str("batch size must be positive:", Kv("size", size)));
  ListBuilder out(runtime);
  const auto n = static_cast<size_t>(size);
  for (size_t i = 0; i < items.size(); i += std::min(n, items.size() - i)) {
    const auto part = items.subspan(i, std::min(n, items.size() - i));
    if (part.size() == n || !arguments.Has(1) || arguments[1].is(Kind::kNone)) {
      out.Append(Value::List(part));
      continue;
    }
    if (n > runtime.remaining_bytes() / sizeof(Value)) {
      return ResourceExhausted(Str("batch would use up the template's memory:", Kv("size", n)));
    }
    std::vector<Value> filled(part.begin(), part.end());
    filled.resize(n, arguments[1]);
    TC_ASSIGN_OR_RETURN(const Value list, runtime.NewList(filled));
    out.Append(list);
  }
  return out.Finish();
}

// An item with what it is compared by.
struct Keyed {
  Value key;
  Value item;
};

// Text compares without regard to case unless asked for.
Result<Value> FoldCase(Runtime& runtime, const Value& key, bool case_sensitive) {
  if (case_sensitive || !key.is(Kind::kString)) return key;
  return runtime.NewString(Lower(key.text()));
}

// The key of an item by `attribute`, which may list several names: "a,b".
Result<Value> SortKey(Runtime& runtime, const Value& item, const Value& attribute,
                      bool case_sensitive) {
  const bool whole = attribute.is(Kind::kUndefined) || attribute.is(Kind::kNone);
  if (whole) return FoldCase(runtime, item, case_sensitive);
  const bool several =
      attribute.is(Kind::kString) && attribute.text().find(',') != std::string_view::npos;
  if (!several) {
    TC_ASSIGN_OR_RETURN(const Value key, FollowPath(runtime, item, attribute));
    return FoldCase(runtime, key, case_sensitive);
  }
  ListBuilder keys(runtime);
  std::string_view rest = attribute.text();
  while (true) {
    const size_t comma = std::min(rest.find(','), rest.size());
    TC_ASSIGN_OR_RETURN(Value key, FollowPath(runtime, item, Value::String(rest.substr(0, comma))));
    TC_ASSIGN_OR_RETURN(key, FoldCase(runtime, key, case_sensitive));
    keys.Append(key);
    if (comma == rest.size()) return keys.Finish();
    rest.remove_prefix(comma + 1);
  }
}

Result<std::vector<Keyed>> WithKeys(Runtime& runtime, const Value& self, const Value& attribute,
                                    bool case_sensitive) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  TC_RETURN_IF_ERROR(runtime.Charge(items.size() * sizeof(Keyed)));
  std::vector<Keyed> keyed;
  keyed.reserve(items.size());
  for (const Value& item : items) {
    TC_ASSIGN_OR_RETURN(const Value key, SortKey(runtime, item, attribute, case_sensitive));
    keyed.push_back({key, item});
  }
  return keyed;
}

Result<Value> SortedItems(Runtime& runtime, std::vector<Keyed> keyed, bool reverse) {
  Status failure;
  // After a failure all keys count as equal: the order is lost, but it is not used either.
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    if (!failure.ok()) return false;
    const Result<bool> less = reverse ? Less(runtime, b.key, a.key) : Less(runtime, a.key, b.key);
    if (!less.ok()) failure = less.status();
    return less.ok() && *less;
  });
  TC_RETURN_IF_ERROR(failure);
  ListBuilder out(runtime);
  for (const Keyed& entry : keyed) out.Append(entry.item);
  return out.Finish();
}

Result<Value> Sort(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                      WithKeys(runtime, self, arguments[2], arguments.Flag(1)));
  return SortedItems(runtime, std::move(keyed), arguments.Flag(0));
}

Result<Value> DictSort(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  if (self.is(Kind::kUndefined)) return UndefinedError(self);
  if (!self.is(Kind::kDict)) {
    return InvalidArgument(Str("dictsort takes a mapping:", Kv("got", self.TypeName())));
  }
  TC_ASSIGN_OR_RETURN(const std::string_view by, arguments.Text(1, "key"));
  if (by != "key" && by != "value") {
    return InvalidArgument(Str("dictsort sorts by key or value:", Kv("by", Printable(by))));
  }
  TC_ASSIGN_OR_RETURN(const Value pairs, Pairs(runtime, self.dict()));
  TC_ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                      WithKeys(runtime, pairs, Value::Int(by == "key" ? 0 : 1), arguments.Flag(0)));
  return SortedItems(runtime, std::move(keyed), arguments.Flag(2));
}

Result<Value> Unique(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                      WithKeys(runtime, self, arguments[1], arguments.Flag(0)));
  ListBuilder out(runtime);
  std::vector<Value> seen;
  for (const Keyed& entry : keyed) {
    TC_ASSIGN_OR_RETURN(const bool known, Contains(runtime, Value::List(seen), entry.key));
    if (known) continue;
    seen.push_back(entry.key);
    out.Append(entry.item);
  }
  return out.Finish();
}

// The smallest item, or the largest.
Result<Value> Extreme(Runtime& runtime, const Value& self, const BoundArguments& arguments,
                      bool largest) {
  TC_ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                      WithKeys(runtime, self, arguments[1], arguments.Flag(0)));
  if (keyed.empty()) return Value::Undefined("extreme of nothing");
  const Keyed* best = &keyed[0];
  for (const Keyed& entry : keyed) {
    const auto better =
        largest ? Less(runtime, best->key, entry.key) : Less(runtime, entry.key, best->key);
    if (!better.ok()) return better.status();
    if (*better) best = &entry;
  }
  return best->item;
}

Result<Value> Min(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Extreme(runtime, self, arguments, false);
}

Result<Value> Max(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Extreme(runtime, self, arguments, true);
}

Result<Value> Sum(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, self));
  Value total = arguments.Or(1, Value::Int(0));
  for (const Value& item : items) {
    TC_RETURN_IF_ERROR(runtime.Step());
    Value addend = item;
    if (arguments.Has(0) && !arguments[0].is(Kind::kNone)) {
      TC_ASSIGN_OR_RETURN(addend, FollowPath(runtime, item, arguments[0]));
    }
    TC_ASSIGN_OR_RETURN(total, Arithmetic(runtime, BinaryOp::kAdd, total, addend));
  }
  return total;
}

}  // namespace

std::span<const Builtin> SequenceFilters() {
  static constexpr std::array<Builtin, 17> kTable = {{
      {"batch", Batch, 1, {"linecount", "fill_with"}},
      {"count", LengthFilter},
      {"d", Default, 0, {"default_value", "boolean"}},
      {"default", Default, 0, {"default_value", "boolean"}},
      {"dictsort", DictSort, 0, {"case_sensitive", "by", "reverse"}},
      {"first", First},
      {"items", Items},
      {"join", Join, 0, {"d", "attribute"}},
      {"last", Last},
      {"length", LengthFilter},
      {"list", List},
      {"max", Max, 0, {"case_sensitive", "attribute"}},
      {"min", Min, 0, {"case_sensitive", "attribute"}},
      {"reverse", Reverse},
      {"sort", Sort, 0, {"reverse", "case_sensitive", "attribute"}},
      {"sum", Sum, 0, {"attribute", "start"}},
      {"unique", Unique, 0, {"case_sensitive", "attribute"}},
  }};
  return kTable;
}

}  // namespace thermocline::model::jinja
