#include "model/jinja/text_of.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/str.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

std::string Hex(uint32_t value, size_t width) {
  std::array<char, 8> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16);
  const std::string_view text(digits.data(), static_cast<size_t>(end - digits.data()));
  return std::string(width - std::min(width, text.size()), '0') + std::string(text);
}

// Python prints a code point of a repr as it is unless it is a control, a separator other than the
// blank, or a surrogate.
bool IsPrintable(uint32_t c) {
  if (c == ' ') return true;
  return c > 0x20 && !(c >= 0x7f && c < 0xa0) && c != 0xad && !IsSpace(c) &&
         !(c >= 0x200b && c <= 0x200f) && !(c >= 0x202a && c <= 0x202e) && c != 0xfeff;
}

void AppendReprCodePoint(std::string_view text, size_t at, char quote, TextBuilder& out) {
  const uint32_t c = CodePointAt(text, at);
  if (c == '\\' || c == static_cast<uint32_t>(quote)) {
    out.Append('\\');
    out.Append(static_cast<char>(c));
  } else if (c == '\n') {
    out.Append("\\n");
  } else if (c == '\r') {
    out.Append("\\r");
  } else if (c == '\t') {
    out.Append("\\t");
  } else if (IsPrintable(c)) {
    out.Append(text.substr(at, CodePointBytes(text, at)));
  } else if (c < 0x100) {
    out.Append("\\x" + Hex(c, 2));
  } else {
    out.Append("\\u" + Hex(c, 4));
  }
}

void AppendStringRepr(std::string_view text, TextBuilder& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out.Append(quote);
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) {
    AppendReprCodePoint(text, at, quote, out);
  }
  out.Append(quote);
}

Status AppendItemsRepr(Runtime& runtime, const Value& value, TextBuilder& out) {
  const bool is_list = value.is(Kind::kList);
  out.Append(is_list ? '[' : '(');
  bool first = true;
  for (const Value& item : value.items()) {
    if (!first) out.Append(", ");
    first = false;
    TC_RETURN_IF_ERROR(AppendRepr(runtime, item, out));
  }
  if (!is_list && value.items().size() == 1) out.Append(',');
  out.Append(is_list ? ']' : ')');
  return OkStatus();
}

Status AppendDictRepr(Runtime& runtime, const Value& value, TextBuilder& out) {
  out.Append('{');
  bool first = true;
  for (const Entry& entry : value.dict().entries()) {
    if (!first) out.Append(", ");
    first = false;
    TC_RETURN_IF_ERROR(AppendRepr(runtime, entry.key, out));
    out.Append(": ");
    TC_RETURN_IF_ERROR(AppendRepr(runtime, entry.value, out));
  }
  out.Append('}');
  return OkStatus();
}

std::string ScalarText(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.boolean() ? "True" : "False";
    case Kind::kInt:
      return std::to_string(value.integer());
    case Kind::kFloat:
      return FloatText(value.number());
    default:
      return Str("<", value.TypeName(), ">");
  }
}

// Writes one value as JSON. Lives for one call of ToJson.
class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style)
      : runtime_(runtime), style_(style), out_(runtime) {}

  Result<Value> Write(const Value& value) {
    TC_RETURN_IF_ERROR(Append(value));
    return out_.Finish();
  }

 private:
  Status Append(const Value& value) {
    const DepthGuard guard(runtime_);
    TC_RETURN_IF_ERROR(guard.status());
    TC_RETURN_IF_ERROR(runtime_.Step());
    switch (value.kind()) {
      case Kind::kString:
        return AppendString(value.text());
      case Kind::kList:
      case Kind::kTuple:
        return AppendItems(value.items());
      case Kind::kDict:
        return AppendDict(value.dict());
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat:
        out_.Append(Scalar(value));
        return OkStatus();
      default:
        return InvalidArgument(Str("value has no JSON form:", Kv("type", value.TypeName())));
    }
  }

  static std::string Scalar(const Value& value) {
    if (value.is(Kind::kNone)) return "null";
    if (value.is(Kind::kBool)) return value.boolean() ? "true" : "false";
    if (value.is(Kind::kInt)) return std::to_string(value.integer());
    const double number = value.number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return FloatText(number);
  }

  void AppendEscaped(uint32_t c) { out_.Append("\\u" + Hex(c, 4)); }

  void AppendCodePoint(std::string_view text, size_t at) {
    const uint32_t c = CodePointAt(text, at);
    constexpr std::string_view kShort = "\"\\\n\r\t\b\f";
    constexpr std::string_view kShortName = "\"\\nrtbf";
    const size_t i = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
    if (i != std::string_view::npos) {
      out_.Append('\\');
      out_.Append(kShortName[i]);
    } else if (c < 0x20 || (style_.ensure_ascii && c > 0x7e && c < 0x10000)) {
      c == 0x7f ? out_.Append('\x7f') : AppendEscaped(c);
    } else if (style_.ensure_ascii && c >= 0x10000) {
      AppendEscaped(0xd800 + ((c - 0x10000) >> 10));
      AppendEscaped(0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
      out_.Append(text.substr(at, CodePointBytes(text, at)));
    }
  }

  Status AppendString(std::string_view text) {
    TC_RETURN_IF_ERROR(runtime_.Work(text.size()));
    out_.Append('"');
    for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) AppendCodePoint(text, at);
    out_.Append('"');
    return OkStatus();
  }

  void NewLine() {
    if (!style_.pretty) return;
    out_.Append('\n');
    out_.AppendRepeated(style_.indent, level_);
  }

  // What stands before item number `i` of a list or dict.
  void BeforeItem(size_t i) {
    if (i > 0) out_.Append(style_.item_separator);
    NewLine();
  }

  Status AppendItems(std::span<const Value> items) {
    if (items.empty()) {
      out_.Append("[]");
      return OkStatus();
    }
    out_.Append('[');
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      BeforeItem(i);
      TC_RETURN_IF_ERROR(Append(items[i]));
    }
    --level_;
    NewLine();
    out_.Append(']');
    return OkStatus();
  }

  Status AppendDict(const Dict& dict) {
    if (dict.entries().empty()) {
      out_.Append("{}");
      return OkStatus();
    }
    std::vector<Entry> entries(dict.entries().begin(), dict.entries().end());
    if (style_.sort_keys) TC_RETURN_IF_ERROR(SortByKey(entries));
    out_.Append('{');
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      BeforeItem(i);
      const Value& key = entries[i].key;
      TC_RETURN_IF_ERROR(AppendString(key.is(Kind::kString) ? key.text() : Scalar(key)));
      out_.Append(style_.key_separator);
      TC_RETURN_IF_ERROR(Append(entries[i].value));
    }
    --level_;
    NewLine();
    out_.Append('}');
    return OkStatus();
  }

  Status SortByKey(std::vector<Entry>& entries) {
    TC_RETURN_IF_ERROR(runtime_.Work(entries.size() * sizeof(Entry) * 2));
    for (const Entry& entry : entries) {
      if (entry.key.is(Kind::kString) != entries[0].key.is(Kind::kString)) {
        return InvalidArgument("dict keys of different types cannot be sorted");
      }
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return CompareKeys(a.key, b.key) < 0; });
    return OkStatus();
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  TextBuilder out_;
  size_t level_ = 0;
};

}  // namespace

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // 32 bytes hold sign, 17 digits, point and exponent.
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(end - buffer.data()));
  const size_t e = text.find('e');
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  const std::string sign = std::signbit(value) ? "-" : "";
  const int exponent = std::stoi(std::string(text.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = digits.size() > 1 ? "." + digits.substr(1) : "";
    const std::string power = std::to_string(std::abs(exponent));
    return sign + digits[0] + fraction + (exponent < 0 ? "e-" : "e+") +
           (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0)
    return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t n_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= n_whole)
    return sign + digits + std::string(n_whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, n_whole) + "." + digits.substr(n_whole);
}

Status AppendRepr(Runtime& runtime, const Value& value, TextBuilder& out) {
  const DepthGuard guard(runtime);
  TC_RETURN_IF_ERROR(guard.status());
  TC_RETURN_IF_ERROR(runtime.Step());
  switch (value.kind()) {
    case Kind::kString:
      TC_RETURN_IF_ERROR(runtime.Work(value.text().size()));
      AppendStringRepr(value.text(), out);
      return OkStatus();
    case Kind::kList:
    case Kind::kTuple:
      return AppendItemsRepr(runtime, value, out);
    case Kind::kDict:
      return AppendDictRepr(runtime, value, out);
    default:
      out.Append(ScalarText(value));
      return OkStatus();
  }
}

Result<Value> ToText(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kString)) return value;
  if (value.is(Kind::kUndefined)) return Value::String("");
  TextBuilder out(runtime);
  TC_RETURN_IF_ERROR(AppendRepr(runtime, value, out));
  return out.Finish();
}

Result<Value> ToJson(Runtime& runtime, const Value& value, const JsonStyle& style) {
  return JsonWriter(runtime, style).Write(value);
}

}  // namespace thermocline::model::jinja
