#include "model/jinja/printf_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>

#include "base/str.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

// Wider fields and longer fractions have no use in a prompt.
constexpr size_t kMaxWidth = 1000;
constexpr size_t kMaxPrecision = 60;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

struct Conversion {
  std::string flags;
  size_t width = 0;
  bool has_precision = false;
  size_t precision = 0;
  char type = 0;
};

// Formats one string. Lives for one call of PrintfFormat.
class Formatter {
 public:
  Formatter(Runtime& runtime, std::string_view format, const Value& values)
      : runtime_(runtime), format_(format), values_(values), out_(runtime) {}

  Result<Value> Run() {
    TC_RETURN_IF_ERROR(runtime_.Work(format_.size()));
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out_.Append(format_[at_++]);
        continue;
      }
      ++at_;
      TC_ASSIGN_OR_RETURN(const Conversion conversion, ReadConversion());
      TC_RETURN_IF_ERROR(Convert(conversion));
    }
    if (values_.is(Kind::kTuple) && n_used_ < values_.items().size()) {
      return InvalidArgument("not all values were used by the format");
    }
    if (!values_.is(Kind::kTuple) && !values_.is(Kind::kDict) && n_used_ == 0) {
      return InvalidArgument("not all values were used by the format");
    }
    return out_.Finish();
  }

 private:
  char Peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  Result<size_t> ReadNumber(size_t max) {
    size_t value = 0;
    while (IsDigit(Peek())) {
      value = value * 10 + static_cast<size_t>(format_[at_++] - '0');
      if (value > max) return InvalidArgument(Str("format field is too wide:", Kv("max", max)));
    }
    return value;
  }

  Result<Conversion> ReadConversion() {
    Conversion conversion;
    while (Peek() != '\0' && std::string_view("-+ 0#").find(Peek()) != std::string_view::npos) {
      const char flag = format_[at_++];
      if (conversion.flags.find(flag) == std::string::npos) conversion.flags += flag;
    }
    TC_ASSIGN_OR_RETURN(conversion.width, ReadNumber(kMaxWidth));
    if (Peek() == '.') {
      ++at_;
      conversion.has_precision = true;
      TC_ASSIGN_OR_RETURN(conversion.precision, ReadNumber(kMaxPrecision));
    }
    if (at_ >= format_.size()) return InvalidArgument("format ends inside a conversion");
    conversion.type = format_[at_++];
    return conversion;
  }

  Result<Value> NextValue() {
    const size_t i = n_used_++;
    if (!values_.is(Kind::kTuple) && i == 0) return values_;
    if (values_.is(Kind::kTuple) && i < values_.items().size()) return values_.items()[i];
    return InvalidArgument("not enough values for the format");
  }

  Status Convert(const Conversion& conversion) {
    if (conversion.type == '%') {
      out_.Append('%');
      return OkStatus();
    }
    constexpr std::string_view kKnown = "srdiufeEgGFxXoc";
    if (kKnown.find(conversion.type) == std::string_view::npos) {
      return InvalidArgument(
          Str("format conversion not supported: %", Printable({&conversion.type, 1})));
    }
    TC_ASSIGN_OR_RETURN(const Value value, NextValue());
    switch (conversion.type) {
      case 's':
      case 'r':
      case 'c':
        return ConvertText(conversion, value);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return ConvertInteger(conversion, value);
      default:
        return ConvertFloat(conversion, value);
    }
  }

  void Pad(const Conversion& conversion, std::string_view text) {
    const size_t n = CodePointCount(text);
    const size_t padding = conversion.width > n ? conversion.width - n : 0;
    const bool left = conversion.flags.find('-') != std::string::npos;
    if (!left) out_.AppendRepeated(" ", padding);
    out_.Append(text);
    if (left) out_.AppendRepeated(" ", padding);
  }

  Status ConvertText(const Conversion& conversion, const Value& value) {
    if (conversion.type == 'c' && value.is_integral()) {
      std::string encoded;
      AppendUtf8(static_cast<uint32_t>(std::clamp<int64_t>(value.integer(), 0, 0x110000)), encoded);
      Pad(conversion, encoded);
      return OkStatus();
    }
    Value text;
    if (conversion.type == 'r') {
      TextBuilder repr(runtime_);
      TC_RETURN_IF_ERROR(AppendRepr(runtime_, value, repr));
      TC_ASSIGN_OR_RETURN(text, repr.Finish());
    } else {
      TC_ASSIGN_OR_RETURN(text, ToText(runtime_, value));
    }
    std::string_view shown = text.text();
    if (conversion.has_precision) shown = shown.substr(0, ByteOffset(shown, conversion.precision));
    Pad(conversion, shown);
    return OkStatus();
  }

  // The C format for this conversion; width and precision are bounded, so a small buffer holds it.
  static std::string CFormat(const Conversion& conversion, std::string_view type) {
    std::string format = "%" + conversion.flags;
    if (conversion.width > 0) format += std::to_string(conversion.width);
    if (conversion.has_precision) format += "." + std::to_string(conversion.precision);
    return format += type;
  }

  // snprintf into a buffer for the widest field or the longest double (310 digits and a fraction).
  template <typename T>
  void Print(const std::string& format, T number) {
    std::array<char, kMaxWidth + 400> buffer;
    const int n = std::snprintf(buffer.data(), buffer.size(), format.c_str(), number);
    out_.Append({buffer.data(), static_cast<size_t>(std::max(n, 0))});
  }

  Status ConvertInteger(const Conversion& conversion, const Value& value) {
    if (!value.is_number()) return WrongType(conversion, value);
    const double number = value.number();
    if (value.is(Kind::kFloat) && !(std::abs(number) < 9.2e18)) {
      return InvalidArgument("number does not fit an integer format");
    }
    const int64_t integer = value.is(Kind::kFloat) ? static_cast<int64_t>(number) : value.integer();
    const bool decimal = std::string_view("diu").find(conversion.type) != std::string_view::npos;
    if (!decimal && integer < 0) {
      return InvalidArgument(Str("negative number in a format: %", conversion.type));
    }
    const std::string type = decimal ? "lld" : std::string("ll") + conversion.type;
    Print(CFormat(conversion, type), static_cast<long long>(integer));
    return OkStatus();
  }

  Status ConvertFloat(const Conversion& conversion, const Value& value) {
    if (!value.is_number()) return WrongType(conversion, value);
    Print(CFormat(conversion, std::string(1, conversion.type)), value.number());
    return OkStatus();
  }

  static Status WrongType(const Conversion& conversion, const Value& value) {
    return InvalidArgument(
        Str("format needs a number: %", conversion.type, Kv("got", value.TypeName())));
  }

  Runtime& runtime_;
  const std::string_view format_;
  const Value& values_;
  TextBuilder out_;
  size_t at_ = 0;
  size_t n_used_ = 0;
};

}  // namespace

Result<Value> PrintfFormat(Runtime& runtime, std::string_view format, const Value& values) {
  return Formatter(runtime, format, values).Run();
}

}  // namespace thermocline::model::jinja
