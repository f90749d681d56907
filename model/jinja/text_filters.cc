// Filters on text. Each takes any value and works on its str(), as Jinja's do.
#include <array>
#include <string>

#include "base/str.h"
#include "model/jinja/filters.h"
#include "model/jinja/printf_format.h"
#include "model/jinja/text_functions.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

Result<std::string_view> TextOf(Runtime& runtime, const Value& value) {
  TC_ASSIGN_OR_RETURN(const Value text, ToText(runtime, value));
  TC_RETURN_IF_ERROR(runtime.Work(text.text().size()));
  return text.text();
}

Result<Value> String(Runtime& runtime, const Value& self, const BoundArguments&) {
  return ToText(runtime, self);
}

Result<Value> UpperCase(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  return runtime.NewString(Upper(text));
}

Result<Value> LowerCase(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  return runtime.NewString(Lower(text));
}

Result<Value> Capitalize(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  return CapitalizeText(runtime, text);
}

// Words begin after blanks, hyphens and opening brackets.
Result<Value> Title(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  TextBuilder out(runtime);
  bool at_start = true;
  for (size_t at = 0; at < text.size();) {
    const size_t n = CodePointBytes(text, at);
    const uint32_t c = CodePointAt(text, at);
    const std::string_view letter = text.substr(at, n);
    out.Append(at_start ? Upper(letter) : Lower(letter));
    at_start = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    at += n;
  }
  return out.Finish();
}

Result<Value> Trim(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  if (!arguments.Has(0) || arguments[0].is(Kind::kNone)) {
    return Value::String(TrimLeft(TrimRight(text)));
  }
  TC_ASSIGN_OR_RETURN(const std::string_view chars, arguments.Text(0, ""));
  TC_RETURN_IF_ERROR(runtime.Work(chars.size() * text.size() / 16));
  return Value::String(TrimLeft(TrimRight(text, chars), chars));
}

Result<Value> Replace(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  TC_ASSIGN_OR_RETURN(const std::string_view from, TextOf(runtime, arguments[0]));
  TC_ASSIGN_OR_RETURN(const std::string_view to, TextOf(runtime, arguments[1]));
  const bool no_limit = !arguments.Has(2) || arguments[2].is(Kind::kNone);
  int64_t max_count = -1;
  if (!no_limit) {
    TC_ASSIGN_OR_RETURN(max_count, arguments.Integer(2, -1));
  }
  return ReplaceText(runtime, text, from, to, max_count);
}

Result<Value> Center(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  TC_ASSIGN_OR_RETURN(const int64_t width, arguments.Integer(0, 80));
  return CenterText(runtime, text, width);
}

// Characters with a meaning in HTML, as entities.
Result<Value> Escape(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  TextBuilder out(runtime);
  for (const char c : text) {
    switch (c) {
      case '&':
        out.Append("&amp;");
        break;
      case '<':
        out.Append("&lt;");
        break;
      case '>':
        out.Append("&gt;");
        break;
      case '\'':
        out.Append("&#39;");
        break;
      case '"':
        out.Append("&#34;");
        break;
      default:
        out.Append(c);
    }
  }
  return out.Finish();
}

// What stands before each line: blanks by number, or a text.
Result<std::string_view> Indentation(Runtime& runtime, const BoundArguments& arguments) {
  if (arguments.Has(0) && arguments[0].is(Kind::kString)) return arguments[0].text();
  TC_ASSIGN_OR_RETURN(const int64_t width, arguments.Integer(0, 4));
  TextBuilder blanks(runtime);
  blanks.AppendRepeated(" ", width > 0 ? static_cast<size_t>(width) : 0);
  TC_ASSIGN_OR_RETURN(const Value text, blanks.Finish());
  return text.text();
}

// Lines after the first are indented; the first and empty ones on request. A newline at the end
// stays.
Result<Value> Indent(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  TC_ASSIGN_OR_RETURN(const std::string_view indentation, Indentation(runtime, arguments));
  TC_ASSIGN_OR_RETURN(const Value lines, SplitLines(runtime, text));
  TextBuilder out(runtime);
  if (arguments.Flag(1)) out.Append(indentation);
  const auto append_line = [&](size_t i, std::string_view line) {
    if (i > 0) out.Append('\n');
    if (i > 0 && (!line.empty() || arguments.Flag(2))) out.Append(indentation);
    out.Append(line);
  };
  const size_t n = lines.items().size();
  for (size_t i = 0; i < n; ++i) append_line(i, lines.items()[i].text());
  const bool ends_with_newline =
      !text.empty() && IsLineEnd(static_cast<unsigned char>(text.back()));
  if (ends_with_newline) append_line(n, "");
  return out.Finish();
}

Result<Value> WordCount(Runtime& runtime, const Value& self, const BoundArguments&) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  int64_t n = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) {
    const uint32_t c = CodePointAt(text, at);
    const bool word = IsLetter(c) || (c >= '0' && c <= '9') || c == '_';
    if (word && !in_word) ++n;
    in_word = word;
  }
  return Value::Int(n);
}

Result<Value> Truncate(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  TC_ASSIGN_OR_RETURN(const int64_t length, arguments.Integer(0, 255));
  TC_ASSIGN_OR_RETURN(const std::string_view end, arguments.Text(2, "..."));
  TC_ASSIGN_OR_RETURN(const int64_t leeway, arguments.Integer(3, 5));
  const auto n_end = static_cast<int64_t>(CodePointCount(end));
  if (length < n_end || leeway < 0) {
    return InvalidArgument(Str("truncate needs room for its end:", Kv("length", length)));
  }
  const auto n = static_cast<int64_t>(CodePointCount(text));
  if (n <= length || n - length <= leeway) return Value::String(text);
  std::string_view kept = text.substr(0, ByteOffset(text, static_cast<size_t>(length - n_end)));
  const size_t blank = kept.rfind(' ');
  if (!arguments.Flag(1) && blank != std::string_view::npos) kept = kept.substr(0, blank);
  return runtime.Concat(kept, end);
}

Result<Value> Format(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const std::string_view text, TextOf(runtime, self));
  if (!arguments.raw().named.empty()) return InvalidArgument("format takes no named arguments");
  return PrintfFormat(runtime, text, Value::Tuple(arguments.raw().positional));
}

Result<JsonStyle> ReadJsonStyle(const BoundArguments& arguments) {
  JsonStyle style;
  style.ensure_ascii = arguments.Flag(0);
  style.sort_keys = arguments.Flag(3);
  style.pretty = arguments.Has(1) && !arguments[1].is(Kind::kNone);
  if (style.pretty) {
    style.item_separator = ",";
    // Wider indentation has no use.
    constexpr int64_t kMaxIndent = 64;
    if (arguments[1].is(Kind::kString)) {
      style.indent = arguments[1].text();
    } else {
      TC_ASSIGN_OR_RETURN(const int64_t width, arguments.Integer(1, 0));
      if (width > kMaxIndent) {
        return InvalidArgument(Str("tojson indent is too wide:", Kv("max", kMaxIndent)));
      }
      style.indent = std::string(width > 0 ? static_cast<size_t>(width) : 0, ' ');
    }
  }
  if (!arguments.Has(2) || arguments[2].is(Kind::kNone)) return style;
  const Value& separators = arguments[2];
  const bool valid = separators.is_sequence() && separators.items().size() == 2 &&
                     separators.items()[0].is(Kind::kString) &&
                     separators.items()[1].is(Kind::kString);
  if (!valid) return InvalidArgument("tojson separators must be two strings");
  style.item_separator = separators.items()[0].text();
  style.key_separator = separators.items()[1].text();
  return style;
}

Result<Value> ToJsonFilter(Runtime& runtime, const Value& self, const BoundArguments& arguments) {
  TC_ASSIGN_OR_RETURN(const JsonStyle style, ReadJsonStyle(arguments));
  return ToJson(runtime, self, style);
}

}  // namespace

std::span<const Builtin> TextFilters() {
  static constexpr std::array<Builtin, 17> kTable = {{
      {"capitalize", Capitalize},
      {"center", Center, 0, {"width"}},
      {"e", Escape},
      {"escape", Escape},
      {"forceescape", Escape},
      {"format", Format, 0, {}, true},
      {"indent", Indent, 0, {"width", "first", "blank"}},
      {"lower", LowerCase},
      {"replace", Replace, 2, {"old", "new", "count"}},
      {"safe", String},
      {"string", String},
      {"title", Title},
      {"tojson", ToJsonFilter, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
      {"trim", Trim, 0, {"chars"}},
      {"truncate", Truncate, 0, {"length", "killwords", "end", "leeway"}},
      {"upper", UpperCase},
      {"wordcount", WordCount},
  }};
  return kTable;
}

}  // namespace thermocline::model::jinja
