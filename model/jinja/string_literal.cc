#include "model/jinja/string_literal.h"

#include <charconv>
#include <cstdint>

#include "base/str.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

constexpr std::string_view kSimple = "ntr\\'\"abfv";
constexpr std::string_view kSimpleValue = "\n\t\r\\'\"\a\b\f\v";

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

class Decoder {
 public:
  explicit Decoder(std::string_view body) : body_(body) {}

  Result<std::string> Run() {
    while (at_ < body_.size()) {
      if (body_[at_] != '\\' || at_ + 1 == body_.size()) {
        out_ += body_[at_++];
      } else {
        TC_RETURN_IF_ERROR(Escape(body_[at_ + 1]));
      }
    }
    return std::move(out_);
  }

 private:
  Status Escape(char c) {
    at_ += 2;
    const size_t simple = kSimple.find(c);
    if (simple != std::string_view::npos) {
      out_ += kSimpleValue[simple];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return Hex(c == 'x' ? 2 : (c == 'u' ? 4 : 8));
    } else if (IsOctal(c)) {
      Octal();
    } else if (c == 'N') {
      return InvalidArgument("string escape not supported: \\N");
    } else if (c != '\n') {  // a backslash at a line's end joins the lines
      out_ += '\\';
      out_ += c;
    }
    return OkStatus();
  }

  void Octal() {
    uint32_t value = 0;
    size_t end = at_ - 1;
    while (end < body_.size() && end < at_ + 2 && IsOctal(body_[end])) {
      value = value * 8 + static_cast<uint32_t>(body_[end++] - '0');
    }
    at_ = end;
    AppendUtf8(value, out_);
  }

  Result<uint32_t> HexDigits(size_t at, size_t n) const {
    uint32_t value = 0;
    const std::string_view digits = body_.substr(std::min(at, body_.size()), n);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != n || error != std::errc() || end != digits.data() + n) {
      return InvalidArgument(Str("string escape lacks its hexadecimal digits:", Kv("needed", n)));
    }
    return value;
  }

  Status Hex(size_t n) {
    TC_ASSIGN_OR_RETURN(uint32_t value, HexDigits(at_, n));
    at_ += n;
    const bool is_high = value >= 0xd800 && value <= 0xdbff;
    if (is_high && body_.substr(at_).starts_with("\\u")) {
      const auto low = HexDigits(at_ + 2, 4);
      if (low.ok() && *low >= 0xdc00 && *low <= 0xdfff) {
        value = 0x10000 + ((value - 0xd800) << 10) + (*low - 0xdc00);
        at_ += 6;
      }
    }
    AppendUtf8(value, out_);
    return OkStatus();
  }

  const std::string_view body_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

Result<std::string> DecodeString(std::string_view body) { return Decoder(body).Run(); }

}  // namespace thermocline::model::jinja
