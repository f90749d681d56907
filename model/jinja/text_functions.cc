#include "model/jinja/text_functions.h"

#include <cstring>
#include <limits>

#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

// Python puts `to` before every code point and at the end when `from` is empty.
Result<Value> InsertEverywhere(Runtime& runtime, std::string_view text, std::string_view to,
                               uint64_t max_count) {
  TextBuilder out(runtime);
  uint64_t count = 0;
  for (size_t at = 0; at < text.size();) {
    if (count++ < max_count) out.Append(to);
    const size_t n = CodePointBytes(text, at);
    out.Append(text.substr(at, n));
    at += n;
  }
  if (count < max_count) out.Append(to);
  return out.Finish();
}

}  // namespace

size_t FindText(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const std::string_view rest = text.substr(from);
  if (wanted.empty()) return from;
  if (rest.empty()) return std::string_view::npos;
  const void* const found = memmem(rest.data(), rest.size(), wanted.data(), wanted.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

Result<Value> ReplaceText(Runtime& runtime, std::string_view text, std::string_view from,
                          std::string_view to, int64_t max_count) {
  TC_RETURN_IF_ERROR(runtime.Work(text.size()));
  const uint64_t limit =
      max_count < 0 ? std::numeric_limits<uint64_t>::max() : static_cast<uint64_t>(max_count);
  if (from.empty()) return InsertEverywhere(runtime, text, to, limit);
  TextBuilder out(runtime);
  size_t at = 0;
  for (uint64_t count = 0; count < limit; ++count) {
    const size_t found = FindText(text, from, at);
    if (found == std::string_view::npos) break;
    out.Append(text.substr(at, found - at));
    out.Append(to);
    at = found + from.size();
  }
  if (at == 0) return Value::String(text);
  out.Append(text.substr(at));
  return out.Finish();
}

Result<Value> CapitalizeText(Runtime& runtime, std::string_view text) {
  if (text.empty()) return Value::String(text);
  const size_t n = CodePointBytes(text, 0);
  return runtime.NewString(Upper(text.substr(0, n)) + Lower(text.substr(n)));
}

Result<Value> JoinText(Runtime& runtime, std::string_view separator, std::span<const Value> items) {
  TextBuilder out(runtime);
  for (size_t i = 0; i < items.size(); ++i) {
    TC_RETURN_IF_ERROR(runtime.Step());
    if (i > 0) out.Append(separator);
    TC_ASSIGN_OR_RETURN(const Value text, ToText(runtime, items[i]));
    out.Append(text.text());
  }
  return out.Finish();
}

Result<Value> SplitLines(Runtime& runtime, std::string_view text) {
  TC_RETURN_IF_ERROR(runtime.Work(text.size()));
  ListBuilder lines(runtime);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = CodePointAt(text, at);
    size_t next = at + CodePointBytes(text, at);
    if (IsLineEnd(c)) {
      lines.Append(Value::String(text.substr(begin, at - begin)));
      if (c == '\r' && text.substr(next).starts_with('\n')) ++next;
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) lines.Append(Value::String(text.substr(begin)));
  return lines.Finish();
}

Result<Value> CenterText(Runtime& runtime, std::string_view text, int64_t width) {
  const auto n = static_cast<int64_t>(CodePointCount(text));
  const int64_t padding = width > n ? width - n : 0;
  // Python gives the odd blank to the left when the width is odd.
  const int64_t left = padding / 2 + (padding & width & 1);
  TextBuilder out(runtime);
  out.AppendRepeated(" ", static_cast<size_t>(left));
  out.Append(text);
  out.AppendRepeated(" ", static_cast<size_t>(padding - left));
  return out.Finish();
}

}  // namespace thermocline::model::jinja
