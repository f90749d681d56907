#include "model/jinja/methods.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/str.h"
#include "model/jinja/filters.h"
#include "model/jinja/operators.h"
#include "model/jinja/text_functions.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

constexpr size_t kNowhere = std::string_view::npos;

// Searching from the end compares up to the whole of `wanted` at each place.
Status WorkOnLastFind(Runtime& runtime, std::string_view text, std::string_view wanted) {
  return runtime.Work(text.size() * (1 + wanted.size() / 8));
}

bool Absent(const BoundArguments& arguments, size_t i) {
  return !arguments.Has(i) || arguments[i].is(Kind::kNone);
}

Result<Value> UpperCase(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  return runtime.NewString(Upper(self.text()));
}

Result<Value> LowerCase(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  return runtime.NewString(Lower(self.text()));
}

Result<Value> Capitalize(Runtime& runtime, const Value& self, const BoundArguments&) {
  return CapitalizeText(runtime, self.text());
}

// str.title: a letter is large when the code point before it is no letter.
Result<Value> Title(Runtime& runtime, const Value& self, const BoundArguments&) {
  const std::string_view text = self.text();
  TextBuilder out(runtime);
  bool after_letter = false;
  for (size_t at = 0; at < text.size();) {
    const size_t n = CodePointBytes(text, at);
    const std::string_view letter = text.substr(at, n);
    out.Append(after_letter ? Lower(letter) : Upper(letter));
    after_letter = IsLetter(CodePointAt(text, at));
    at += n;
  }
  return out.Finish();
}

// strip, lstrip and rstrip.
Result<Value> Strip(Runtime& runtime, const Value& self, const BoundArguments& arguments, bool left,
                    bool right) {
  std::string_view text = self.text();
  TC_RETURN_IF_ERROR(runtime.Work(text.size()));
  if (Absent(arguments, 0)) {
    if (right) text = TrimRight(text);
    return Value::String(left ? TrimLeft(text) : text);
  }
  TC_ASSIGN_OR_RETURN(const std::string_view chars, arguments.Text(0, ""));
  TC_RETURN_IF_ERROR(runtime.Work(chars.size() * text.size() / 16));
  if (right) text = TrimRight(text, chars);
  return Value::String(left ? TrimLeft(text, chars) : text);
}

Result<Value> StripBoth(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Strip(runtime, self, arguments, true, true);
}

Result<Value> StripLeft(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Strip(runtime, self, arguments, true, false);
}

Result<Value> StripRight(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return Strip(runtime, self, arguments, false, true);
}

// Words between runs of white space; after `max_splits` the rest stays whole.
Result<Value> SplitAtSpace(Runtime& runtime, std::string_view text, int64_t max_splits) {
  ListBuilder out(runtime);
  text = TrimLeft(text);
  while (!text.empty()) {
    if (max_splits-- == 0) {
      out.Append(Value::String(text));
      break;
    }
    size_t end = 0;
    while (end < text.size() && !IsSpace(CodePointAt(text, end))) end += CodePointBytes(text, end);
    out.Append(Value::String(text.substr(0, end)));
    text = TrimLeft(text.substr(end));
  }
  return out.Finish();
}

// Where the last word of `text` begins; `text` does not end with white space.
size_t LastWordBegin(std::string_view text) {
  // Inside a code point no byte looks like a space, so each byte is tried, from the end.
  for (size_t at = text.size(); at > 0; --at) {
    if (IsSpace(CodePointAt(text, at - 1))) return at - 1 + CodePointBytes(text, at - 1);
  }
  return 0;
}

Result<Value> SplitAtSpaceFromRight(Runtime& runtime, std::string_view text, int64_t max_splits) {
  std::vector<Value> parts;
  text = TrimRight(text);
  const size_t max_parts = runtime.remaining_bytes() / sizeof(Value);
  while (!text.empty() && max_splits-- != 0 && parts.size() < max_parts) {
    const size_t begin = LastWordBegin(text);
    parts.push_back(Value::String(text.substr(begin)));
    text = TrimRight(text.substr(0, begin));
  }
  if (!text.empty()) parts.push_back(Value::String(text));
  std::reverse(parts.begin(), parts.end());
  return runtime.NewList(parts);
}

Result<Value> SplitAtText(Runtime& runtime, std::string_view text, std::string_view separator,
                          int64_t max_splits) {
  ListBuilder out(runtime);
  while (max_splits-- != 0) {
    const size_t found = FindText(text, separator);
    if (found == kNowhere) break;
    out.Append(Value::String(text.substr(0, found)));
    text.remove_prefix(found + separator.size());
  }
  out.Append(Value::String(text));
  return out.Finish();
}

Result<Value> SplitAtTextFromRight(Runtime& runtime, std::string_view text,
                                   std::string_view separator, int64_t max_splits) {
  TC_RETURN_IF_ERROR(WorkOnLastFind(runtime, text, separator));
  std::vector<Value> parts;
  const size_t max_parts = runtime.remaining_bytes() / sizeof(Value);
  while (max_splits-- != 0 && parts.size() < max_parts) {
    const size_t found = text.rfind(separator);
    if (found == kNowhere) break;
    parts.push_back(Value::String(text.substr(found + separator.size())));
    text = text.substr(0, found);
  }
  parts.push_back(Value::String(text));
  std::reverse(parts.begin(), parts.end());
  return runtime.NewList(parts);
}

Result<Value> SplitEither(Runtime& runtime, const Value& self, const BoundArguments& arguments,
                          bool from_right) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  TC_ASSIGN_OR_RETURN(const int64_t max_splits, arguments.Integer(1, -1));
  if (Absent(arguments, 0)) {
    return from_right ? SplitAtSpaceFromRight(runtime, self.text(), max_splits)
                      : SplitAtSpace(runtime, self.text(), max_splits);
  }
  TC_ASSIGN_OR_RETURN(const std::string_view separator, arguments.Text(0, ""));
  if (separator.empty()) return InvalidArgument("split separator is empty");
  return from_right ? SplitAtTextFromRight(runtime, self.text(), separator, max_splits)
                    : SplitAtText(runtime, self.text(), separator, max_splits);
}

Result<Value> Split(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return SplitEither(runtime, self, arguments, false);
}

Result<Value> SplitRight(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return SplitEither(runtime, self, arguments, true);
}

Result<Value> Lines(Runtime& runtime, const Value& self, const BoundArguments&) {
  return SplitLines(runtime, self.text());
}

// (before, separator, after) at its first or last place.
Result<Value> PartitionAt(Runtime& runtime, const Value& self, const BoundArguments& arguments,
                          bool last) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  TC_ASSIGN_OR_RETURN(const std::string_view separator, arguments.Text(0, ""));
  if (separator.empty()) return InvalidArgument("partition separator is empty");
  const std::string_view text = self.text();
  TC_RETURN_IF_ERROR(WorkOnLastFind(runtime, text, last ? separator : ""));
  const size_t found = last ? text.rfind(separator) : FindText(text, separator);
  const Value whole = Value::String(text);
  const Value nothing = Value::String("");
  if (found == kNowhere) {
    return runtime.NewTuple(last ? std::array{nothing, nothing, whole}
                                 : std::array{whole, nothing, nothing});
  }
  return runtime.NewTuple(std::array{Value::String(text.substr(0, found)), arguments[0],
                                     Value::String(text.substr(found + separator.size()))});
}

Result<Value> Partition(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return PartitionAt(runtime, self, arguments, false);
}

Result<Value> PartitionRight(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return PartitionAt(runtime, self, arguments, true);
}

// startswith and endswith: an affix or a tuple of them.
Result<Value> HasAffix(Runtime& runtime, const Value& self, const BoundArguments& arguments,
                       bool at_end) {
  const Value one = arguments[0];
  const auto affixes = one.is(Kind::kTuple) ? one.items() : std::span<const Value>(&one, 1);
  for (const Value& affix : affixes) {
    TC_RETURN_IF_ERROR(runtime.Step());
    if (affix.is(Kind::kUndefined)) return UndefinedError(affix);
    if (!affix.is(Kind::kString)) {
      return InvalidArgument(Str("affix must be a string:", Kv("got", affix.TypeName())));
    }
    TC_RETURN_IF_ERROR(runtime.Work(affix.text().size()));
    const bool has =
        at_end ? self.text().ends_with(affix.text()) : self.text().starts_with(affix.text());
    if (has) return Value::Bool(true);
  }
  return Value::Bool(false);
}

Result<Value> StartsWith(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return HasAffix(runtime, self, arguments, false);
}

Result<Value> EndsWith(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  return HasAffix(runtime, self, arguments, true);
}

Result<Value> RemovePrefix(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  TC_ASSIGN_OR_RETURN(const std::string_view prefix, arguments.Text(0, ""));
  const bool has = self.text().starts_with(prefix);
  return Value::String(has ? self.text().substr(prefix.size()) : self.text());
}

Result<Value> RemoveSuffix(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  TC_ASSIGN_OR_RETURN(const std::string_view suffix, arguments.Text(0, ""));
  const bool has = self.text().ends_with(suffix);
  return Value::String(self.text().substr(0, self.text().size() - (has ? suffix.size() : 0)));
}

Result<Value> Replace(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view from, arguments.Text(0, ""));
  TC_ASSIGN_OR_RETURN(const std::string_view to, arguments.Text(1, ""));
  TC_ASSIGN_OR_RETURN(const int64_t max_count, arguments.Integer(2, -1));
  return ReplaceText(runtime, self.text(), from, to, max_count);
}

// Code point index of the first or last place of the argument; -1 when absent.
Result<int64_t> Locate(Runtime& runtime, const Value& self, const BoundArguments& arguments,
                       bool last) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  TC_ASSIGN_OR_RETURN(const std::string_view wanted, arguments.Text(0, ""));
  TC_RETURN_IF_ERROR(WorkOnLastFind(runtime, self.text(), last ? wanted : ""));
  const size_t at = last ? self.text().rfind(wanted) : FindText(self.text(), wanted);
  if (at == kNowhere) return -1;
  return static_cast<int64_t>(CodePointCount(self.text().substr(0, at)));
}

Result<Value> Find(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const int64_t at, Locate(runtime, self, arguments, false));
  return Value::Int(at);
}

Result<Value> FindRight(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const int64_t at, Locate(runtime, self, arguments, true));
  return Value::Int(at);
}

Result<Value> IndexOfText(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const int64_t at, Locate(runtime, self, arguments, false));
  if (at < 0) return InvalidArgument("substring not found");
  return Value::Int(at);
}

Result<Value> CountText(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  TC_ASSIGN_OR_RETURN(const std::string_view wanted, arguments.Text(0, ""));
  std::string_view text = self.text();
  if (wanted.empty()) return Value::Int(static_cast<int64_t>(CodePointCount(text)) + 1);
  int64_t n = 0;
  for (size_t at = FindText(text, wanted); at != kNowhere;
       at = FindText(text, wanted, at + wanted.size())) {
    ++n;
  }
  return Value::Int(n);
}

Result<Value> Join(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const auto items, Iterate(runtime, arguments[0]));
  for (const Value& item : items) {
    if (!item.is(Kind::kString)) {
      return InvalidArgument(Str("join takes strings:", Kv("got", item.TypeName())));
    }
  }
  return JoinText(runtime, self.text(), items);
}

// Whether the text is not empty and all its code points satisfy the predicate.
Result<Value> AllAre(Runtime& runtime, const Value& self, bool (*is)(uint32_t)) {
  const std::string_view text = self.text();
  TC_RETURN_IF_ERROR(runtime.Work(text.size()));
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) {
    if (!is(CodePointAt(text, at))) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

bool IsDigit(uint32_t c) { return c >= '0' && c <= '9'; }

Result<Value> AllDigits(Runtime& runtime, const Value& self, const BoundArguments&) {
  return AllAre(runtime, self, IsDigit);
}

Result<Value> AllLetters(Runtime& runtime, const Value& self, const BoundArguments&) {
  return AllAre(runtime, self, IsLetter);
}

Result<Value> AllAlphanumeric(Runtime& runtime, const Value& self, const BoundArguments&) {
  return AllAre(runtime, self, [](uint32_t c) { return IsDigit(c) || IsLetter(c); });
}

Result<Value> AllSpace(Runtime& runtime, const Value& self, const BoundArguments&) {
  return AllAre(runtime, self, IsSpace);
}

Result<Value> Get(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  if (arguments[0].is(Kind::kString)) TC_RETURN_IF_ERROR(runtime.Work(arguments[0].text().size()));
  const Value* const found = self.dict().Find(arguments[0]);
  return found != nullptr ? *found : arguments.Or(1, Value::None());
}

Result<Value> Items(Runtime& runtime, const Value& self, const BoundArguments&) {
  return CallBuiltin(runtime, *FindFilter("items"), self, {});
}

Result<Value> Keys(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const auto keys, Iterate(runtime, self));
  return Value::List(keys);
}

Result<Value> Values(Runtime& runtime, const Value& self, const BoundArguments&) {
  ListBuilder out(runtime);
  for (const Entry& entry : self.dict().entries()) out.Append(entry.value);
  return out.Finish();
}

Result<Value> Copy(Runtime&, const Value& self, const BoundArguments&) { return self; }

Result<Value> IndexOfItem(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  for (size_t i = 0; i < self.items().size(); ++i) {
    TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, self.items()[i], arguments[0]));
    if (same) return Value::Int(static_cast<int64_t>(i));
  }
  return InvalidArgument("item is not in the list");
}

Result<Value> CountItems(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  int64_t n = 0;
  for (const Value& item : self.items()) {
    TC_ASSIGN_OR_RETURN(const bool same, Equal(runtime, item, arguments[0]));
    if (same) ++n;
  }
  return Value::Int(n);
}

Result<Value> Refuse(Runtime&, const Value& self, const BoundArguments&) {
  return InvalidArgument(Str("template may not change a ", self.TypeName()));
}

constexpr std::array<Builtin, 26> kTextMethods = {{
    {"capitalize", Capitalize},
    {"count", CountText, 1, {"sub"}},
    {"endswith", EndsWith, 1, {"suffix"}},
    {"find", Find, 1, {"sub"}},
    {"index", IndexOfText, 1, {"sub"}},
    {"isalnum", AllAlphanumeric},
    {"isalpha", AllLetters},
    {"isdigit", AllDigits},
    {"isspace", AllSpace},
    {"join", Join, 1, {"iterable"}},
    {"lower", LowerCase},
    {"lstrip", StripLeft, 0, {"chars"}},
    {"partition", Partition, 1, {"sep"}},
    {"removeprefix", RemovePrefix, 1, {"prefix"}},
    {"removesuffix", RemoveSuffix, 1, {"suffix"}},
    {"replace", Replace, 2, {"old", "new", "count"}},
    {"rfind", FindRight, 1, {"sub"}},
    {"rpartition", PartitionRight, 1, {"sep"}},
    {"rsplit", SplitRight, 0, {"sep", "maxsplit"}},
    {"rstrip", StripRight, 0, {"chars"}},
    {"split", Split, 0, {"sep", "maxsplit"}},
    {"splitlines", Lines},
    {"startswith", StartsWith, 1, {"prefix"}},
    {"strip", StripBoth, 0, {"chars"}},
    {"title", Title},
    {"upper", UpperCase},
}};

constexpr std::array<Builtin, 10> kDictMethods = {{
    {"clear", Refuse, 0, {}, true},
    {"copy", Copy},
    {"get", Get, 1, {"key", "default"}},
    {"items", Items},
    {"keys", Keys},
    {"pop", Refuse, 0, {}, true},
    {"popitem", Refuse, 0, {}, true},
    {"setdefault", Refuse, 0, {}, true},
    {"update", Refuse, 0, {}, true},
    {"values", Values},
}};

constexpr std::array<Builtin, 11> kListMethods = {{
    {"append", Refuse, 0, {}, true},
    {"clear", Refuse, 0, {}, true},
    {"copy", Copy},
    {"count", CountItems, 1, {"value"}},
    {"extend", Refuse, 0, {}, true},
    {"index", IndexOfItem, 1, {"value"}},
    {"insert", Refuse, 0, {}, true},
    {"pop", Refuse, 0, {}, true},
    {"remove", Refuse, 0, {}, true},
    {"reverse", Refuse, 0, {}, true},
    {"sort", Refuse, 0, {}, true},
}};

constexpr std::array<Builtin, 2> kTupleMethods = {{
    {"count", CountItems, 1, {"value"}},
    {"index", IndexOfItem, 1, {"value"}},
}};

}  // namespace

const Builtin* FindMethod(Kind kind, std::string_view name) {
  switch (kind) {
    case Kind::kString:
      return FindBuiltin(kTextMethods, name);
    case Kind::kDict:
      return FindBuiltin(kDictMethods, name);
    case Kind::kList:
      return FindBuiltin(kListMethods, name);
    case Kind::kTuple:
      return FindBuiltin(kTupleMethods, name);
    default:
      return nullptr;
  }
}

bool IsMethodName(std::string_view name) {
  if (name == "cycle" || name == "changed") return true;  // of loop
  for (const Kind kind : {Kind::kString, Kind::kDict, Kind::kList, Kind::kTuple}) {
    if (FindMethod(kind, name) != nullptr) return true;
  }
  return false;
}

}  // namespace thermocline::model::jinja
