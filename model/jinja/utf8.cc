#include "model/jinja/utf8.h"

namespace thermocline::model::jinja {
namespace {

unsigned char ByteAt(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]);
}

bool IsContinuation(std::string_view text, size_t at) {
  return at < text.size() && (ByteAt(text, at) & 0xc0) == 0x80;
}

// Start of the code point that ends just before `end`; end > 0.
size_t PreviousStart(std::string_view text, size_t end) {
  for (size_t n = 4; n > 1; --n) {
    if (n <= end && CodePointBytes(text, end - n) == n) return end - n;
  }
  return end - 1;
}

template <typename Matches>
std::string_view TrimLeftIf(std::string_view text, Matches matches) {
  size_t at = 0;
  while (at < text.size() && matches(at, CodePointBytes(text, at))) at += CodePointBytes(text, at);
  return text.substr(at);
}

template <typename Matches>
std::string_view TrimRightIf(std::string_view text, Matches matches) {
  size_t end = text.size();
  while (end > 0) {
    const size_t start = PreviousStart(text, end);
    if (!matches(start, end - start)) break;
    end = start;
  }
  return text.substr(0, end);
}

// Pairs of Latin Extended-A where the capital is even: U+0100-0137 and U+014A-0177 (U+0130 and
// U+0131, the Turkish i, are no pair).
bool EvenPair(uint32_t c) {
  return ((c >= 0x100 && c <= 0x137) || (c >= 0x14a && c <= 0x177)) && c != 0x130 && c != 0x131;
}

// Pairs where the capital is odd: U+0139-0148 and U+0179-017E.
bool OddPair(uint32_t c) { return (c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e); }

}  // namespace

size_t CodePointBytes(std::string_view text, size_t at) {
  const unsigned char lead = ByteAt(text, at);
  size_t n = 1;
  if (lead >= 0xc2 && lead <= 0xdf) n = 2;
  if (lead >= 0xe0 && lead <= 0xef) n = 3;
  if (lead >= 0xf0 && lead <= 0xf4) n = 4;
  for (size_t i = 1; i < n; ++i) {
    if (!IsContinuation(text, at + i)) return 1;
  }
  return n;
}

uint32_t CodePointAt(std::string_view text, size_t at) {
  const size_t n = CodePointBytes(text, at);
  const uint32_t lead = ByteAt(text, at);
  if (n == 1) return lead < 0x80 ? lead : 0xfffd;
  uint32_t code_point = lead & (0xff >> (n + 1));
  for (size_t i = 1; i < n; ++i) code_point = code_point << 6 | (ByteAt(text, at + i) & 0x3f);
  return code_point;
}

size_t CodePointCount(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) ++count;
  return count;
}

size_t ByteOffset(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    at += CodePointBytes(text, at);
    --index;
  }
  return at;
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) c = 0xfffd;
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

bool IsSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

bool IsLineEnd(uint32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool IsLetter(uint32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return c == 0xaa || c == 0xb5 || c == 0xba ||
         (c >= 0xc0 && c != 0xd7 && c != 0xf7 && !IsSpace(c) && !(c >= 0x2010 && c <= 0x206f));
}

uint32_t ToUpper(uint32_t c) {
  if (c >= 'a' && c <= 'z') return c - 32;
  if (c < 0x80) return c;
  if (c == 0xb5) return 0x39c;
  if (c >= 0xe0 && c <= 0xfe && c != 0xf7) return c - 32;
  if (c == 0xff) return 0x178;
  if (EvenPair(c)) return c & ~uint32_t{1};
  if (OddPair(c)) return c % 2 == 0 ? c - 1 : c;
  if (c == 0x3c2) return 0x3a3;
  if (c >= 0x3b1 && c <= 0x3c9) return c - 32;
  if (c >= 0x430 && c <= 0x44f) return c - 32;
  if (c >= 0x450 && c <= 0x45f) return c - 80;
  return c;
}

uint32_t ToLower(uint32_t c) {
  if (c >= 'A' && c <= 'Z') return c + 32;
  if (c < 0x80) return c;
  if (c >= 0xc0 && c <= 0xde && c != 0xd7) return c + 32;
  if (c == 0x178) return 0xff;
  if (EvenPair(c)) return c | 1;
  if (OddPair(c)) return c % 2 == 1 ? c + 1 : c;
  if (c >= 0x391 && c <= 0x3a9 && c != 0x3a2) return c + 32;
  if (c >= 0x410 && c <= 0x42f) return c + 32;
  if (c >= 0x400 && c <= 0x40f) return c + 80;
  return c;
}

std::string Upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) {
    const uint32_t c = CodePointAt(text, at);
    if (c == 0xdf) {
      out += "SS";
    } else if (ToUpper(c) == c) {
      out += text.substr(at, CodePointBytes(text, at));
    } else {
      AppendUtf8(ToUpper(c), out);
    }
  }
  return out;
}

std::string Lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += CodePointBytes(text, at)) {
    const uint32_t c = CodePointAt(text, at);
    if (ToLower(c) == c) {
      out += text.substr(at, CodePointBytes(text, at));
    } else {
      AppendUtf8(ToLower(c), out);
    }
  }
  return out;
}

std::string_view TrimLeft(std::string_view text) {
  return TrimLeftIf(text, [&](size_t at, size_t) { return IsSpace(CodePointAt(text, at)); });
}

std::string_view TrimRight(std::string_view text) {
  return TrimRightIf(text, [&](size_t at, size_t) { return IsSpace(CodePointAt(text, at)); });
}

std::string_view TrimLeft(std::string_view text, std::string_view chars) {
  return TrimLeftIf(text, [&](size_t at, size_t n) {
    return chars.find(text.substr(at, n)) != std::string_view::npos;
  });
}

std::string_view TrimRight(std::string_view text, std::string_view chars) {
  return TrimRightIf(text, [&](size_t at, size_t n) {
    return chars.find(text.substr(at, n)) != std::string_view::npos;
  });
}

}  // namespace thermocline::model::jinja
