#include "model/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "base/str.h"
#include "model/jinja/string_literal.h"
#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

constexpr std::array<std::string_view, 6> kTwoByteOperators = {"//", "**", "==", "!=", "<=", ">="};
constexpr std::string_view kOneByteOperators = "+-/*%~[](){}=.,:|<>;";

// "\r\n" and "\r" become "\n", and one newline at the very end goes away.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsNameByte(char c) { return IsNameStart(c) || IsDigit(c); }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>> Run() {
    while (at_ < source_.size()) TC_RETURN_IF_ERROR(LexRoot());
    Push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  char At(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  bool LooksAt(std::string_view text) const {
    return std::string_view(source_).substr(at_).starts_with(text);
  }
  std::string_view Rest() const { return std::string_view(source_).substr(at_); }

  Status Error(std::string_view fact, int line) const {
    return InvalidArgument(Str(fact, Kv("line", line)));
  }

  void Push(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  // Moves to `to`, counting lines, and remembers whether a line starts there.
  void Advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + to, '\n'));
    if (to > at_) line_starts_ = source_[to - 1] == '\n';
    at_ = to;
  }

  void SkipSpace() { Advance(source_.size() - TrimLeft(Rest()).size()); }

  // The text before a tag. `marker` is the character after the tag's opening.
  void PushText(size_t end, char marker, bool is_variable) {
    std::string_view text = Rest().substr(0, end - at_);
    if (marker == '-') {
      text = TrimRight(text);
    } else if (marker != '+' && !is_variable) {
      const size_t line_begin = text.rfind('\n') + 1;  // 0 when there is no newline
      const bool whole_line = line_begin > 0 || line_starts_;
      if (whole_line && TrimLeft(text.substr(line_begin)).empty())
        text = text.substr(0, line_begin);
    }
    if (!text.empty()) Push(TokenKind::kText, std::string(text));
    Advance(end);
  }

  // After a block's or comment's closing: `-` eats white space, otherwise one newline goes.
  void SkipAfterClosing(char marker) {
    if (marker == '-') SkipSpace();
    if (marker == '\0' && At(at_) == '\n') Advance(at_ + 1);
  }

  size_t FindTag() const {
    for (size_t i = source_.find('{', at_); i != std::string::npos; i = source_.find('{', i + 1)) {
      if (At(i + 1) == '%' || At(i + 1) == '{' || At(i + 1) == '#') return i;
    }
    return source_.size();
  }

  Status LexRoot() {
    const size_t tag = FindTag();
    if (tag == source_.size()) {
      Push(TokenKind::kText, std::string(Rest()));
      Advance(tag);
      return OkStatus();
    }
    const char type = At(tag + 1);
    const char marker = At(tag + 2);
    PushText(tag, marker, type == '{');
    const int line = line_;
    const size_t raw_end = type == '%' ? RawTagEnd("raw") : 0;
    if (raw_end != 0) return LexRaw(raw_end, line);
    Advance(at_ + (marker == '-' || marker == '+' ? 3 : 2));
    if (type == '#') return LexComment(line);
    const bool is_block = type == '%';
    Push(is_block ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    return LexTag(is_block, line);
  }

  Status LexComment(int line) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) return Error("comment has no end", line);
    const char marker = end > at_ ? At(end - 1) : '\0';
    Advance(end + 2);
    SkipAfterClosing(marker == '-' || marker == '+' ? marker : '\0');
    return OkStatus();
  }

  // If a `{% word %}` tag stands at at_, the offset just behind it; else 0.
  size_t RawTagEnd(std::string_view word) const {
    size_t i = at_ + 2;
    if (At(i) == '-' || At(i) == '+') ++i;
    i = source_.size() -
        TrimLeft(std::string_view(source_).substr(std::min(i, source_.size()))).size();
    if (!std::string_view(source_).substr(i).starts_with(word)) return 0;
    i += word.size();
    i = source_.size() - TrimLeft(std::string_view(source_).substr(i)).size();
    if (At(i) == '-' || (At(i) == '+' && word == "endraw")) ++i;
    return At(i) == '%' && At(i + 1) == '}' ? i + 2 : 0;
  }

  char ClosingMarker(size_t end) const {
    const char c = At(end - 3);
    return c == '-' || c == '+' ? c : '\0';
  }

  Status LexRaw(size_t begin_end, int line) {
    const char marker = ClosingMarker(begin_end);
    Advance(begin_end);
    if (marker == '-') SkipSpace();
    const size_t begin = at_;
    size_t scan = at_;
    while (true) {
      scan = source_.find("{%", scan);
      if (scan == std::string::npos) return Error("raw block has no endraw", line);
      at_ = scan;
      const size_t end = RawTagEnd("endraw");
      at_ = begin;
      if (end != 0) {
        PushText(scan, At(scan + 2), false);
        Advance(end);
        SkipAfterClosing(ClosingMarker(end));
        return OkStatus();
      }
      scan += 2;
    }
  }

  // Whether the tag closes here; a closing inside brackets is an operator instead.
  bool TryClose(bool is_block) {
    if (!brackets_.empty()) return false;
    const char marker = At(at_);
    const bool marked = marker == '-' || (is_block && marker == '+');
    const size_t end = at_ + (marked ? 1 : 0);
    if (At(end) != (is_block ? '%' : '}') || At(end + 1) != '}') return false;
    Push(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
    Advance(end + 2);
    if (is_block) {
      SkipAfterClosing(marked ? marker : '\0');
    } else if (marked) {
      SkipSpace();
    }
    return true;
  }

  Status LexTag(bool is_block, int line) {
    while (true) {
      SkipSpace();
      if (at_ >= source_.size()) {
        return Error(is_block ? "{% has no %}" : "{{ has no }}", line);
      }
      if (TryClose(is_block)) return OkStatus();
      TC_RETURN_IF_ERROR(LexInside());
    }
  }

  Status LexInside() {
    const char c = At(at_);
    if (IsDigit(c)) {
      LexNumber();
      return OkStatus();
    }
    if (IsNameStart(c)) {
      size_t end = at_;
      while (IsNameByte(At(end)) && end < source_.size()) ++end;
      Push(TokenKind::kName, source_.substr(at_, end - at_));
      Advance(end);
      return OkStatus();
    }
    if (c == '"' || c == '\'') return LexString(c);
    return LexOperator();
  }

  // Digits with single underscores between them, from `at` on; appended to `digits`.
  template <typename IsWanted>
  size_t TakeDigits(size_t at, IsWanted is_wanted, std::string& digits) const {
    while (is_wanted(At(at)) || (At(at) == '_' && is_wanted(At(at + 1)))) {
      if (At(at) != '_') digits += At(at);
      ++at;
    }
    return at;
  }

  void LexNumber() {
    const bool after_dot = at_ > 0 && At(at_ - 1) == '.';  // `x.0.5` is two integers
    std::string digits;
    const char base = static_cast<char>(At(at_ + 1) | 0x20);
    const bool prefixed = At(at_) == '0' && (base == 'x' || base == 'o' || base == 'b');
    if (prefixed && IsHexDigit(At(at_ + 2))) {
      digits = std::string("0") + base;
      const size_t end = TakeDigits(at_ + 2, IsHexDigit, digits);
      Push(TokenKind::kInteger, digits);
      return Advance(end);
    }
    size_t end = TakeDigits(at_, IsDigit, digits);
    bool is_float = false;
    if (At(end) == '.' && IsDigit(At(end + 1)) && !after_dot) {
      is_float = true;
      digits += '.';
      end = TakeDigits(end + 1, IsDigit, digits);
    }
    const size_t sign = At(end + 1) == '+' || At(end + 1) == '-' ? 1 : 0;
    if ((At(end) | 0x20) == 'e' && IsDigit(At(end + 1 + sign)) && !after_dot) {
      is_float = true;
      digits += 'e';
      if (sign == 1) digits += At(end + 1);
      end = TakeDigits(end + 1 + sign, IsDigit, digits);
    }
    Push(is_float ? TokenKind::kFloat : TokenKind::kInteger, digits);
    Advance(end);
  }

  Status LexString(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return Error("string has no end", line_);
    auto decoded = DecodeString(std::string_view(source_).substr(at_ + 1, end - at_ - 1));
    if (!decoded.ok()) return Error(decoded.status().message(), line_);
    Push(TokenKind::kString, std::move(decoded).value());
    Advance(end + 1);
    return OkStatus();
  }

  Status LexOperator() {
    const std::string_view two = Rest().substr(0, 2);
    const bool is_two = std::find(kTwoByteOperators.begin(), kTwoByteOperators.end(), two) !=
                        kTwoByteOperators.end();
    if (!is_two && kOneByteOperators.find(At(at_)) == std::string_view::npos) {
      return Error(Str("character not understood: \"", Printable(Rest().substr(0, 1)), "\""),
                   line_);
    }
    const std::string_view op = is_two ? two : two.substr(0, 1);
    TC_RETURN_IF_ERROR(Balance(op[0]));
    Push(TokenKind::kOperator, std::string(op));
    Advance(at_ + op.size());
    return OkStatus();
  }

  Status Balance(char c) {
    constexpr std::string_view kOpening = "([{";
    constexpr std::string_view kClosing = ")]}";
    const size_t opening = kOpening.find(c);
    if (opening != std::string_view::npos) brackets_ += kClosing[opening];
    if (kClosing.find(c) == std::string_view::npos) return OkStatus();
    if (brackets_.empty() || brackets_.back() != c) {
      return Error(Str("bracket does not match: ", c), line_);
    }
    brackets_.pop_back();
    return OkStatus();
  }

  const std::string source_;
  std::vector<Token> tokens_;
  std::string brackets_;  // the closing brackets awaited, innermost last
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // the last thing consumed ended with a newline
};

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace thermocline::model::jinja
