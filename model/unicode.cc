#include "model/unicode.h"

#include "base/str.h"

namespace thermocline::model {
namespace {

// What a lead byte promises: the length of its sequence and the range of its second byte (table
// 3-7). Length 0: no sequence starts with this byte.
struct Lead {
  size_t n_bytes;
  uint8_t second_min;
  uint8_t second_max;
};

constexpr Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};  // continuations, and leads of overlong two-byte forms
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};  // excludes overlong forms
  if (byte == 0xED) return {3, 0x80, 0x9F};  // excludes surrogates
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};  // excludes overlong forms
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};  // excludes code points above U+10FFFF
  return {0, 0, 0};
}

}  // namespace

Utf8Unit ScanUtf8(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  const Lead lead = LeadOf(first);
  if (lead.n_bytes == 0) return {Utf8Kind::kInvalid, 1, 0};
  if (lead.n_bytes == 1) return {Utf8Kind::kValid, 1, first};
  // A lead byte of n bytes carries 7 - n bits of the code point, a continuation six.
  char32_t codepoint = first & (0x7Fu >> lead.n_bytes);
  for (size_t i = 1; i < lead.n_bytes; ++i) {
    if (i == text.size()) return {Utf8Kind::kIncomplete, i, 0};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Utf8Kind::kInvalid, i, 0};
    codepoint = (codepoint << 6) | (byte & 0x3Fu);
  }
  return {Utf8Kind::kValid, lead.n_bytes, codepoint};
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Unit unit = ScanUtf8(text.substr(at));
    if (unit.kind != Utf8Kind::kValid) break;
    at += unit.n_bytes;
  }
  return at;
}

Status CheckUtf8(std::string_view text, std::string_view source) {
  const size_t valid = ValidUtf8Prefix(text);
  if (valid == text.size()) return OkStatus();
  const auto byte = static_cast<int>(static_cast<unsigned char>(text[valid]));
  return InvalidArgument(
      Str("text is not UTF-8: ", source, Kv("offset_bytes", valid), Kv("byte", byte)));
}

void AppendUtf8(char32_t codepoint, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | ((codepoint >> shift) & 0x3F)));
  };
  if (codepoint < 0x80) {
    out->push_back(static_cast<char>(codepoint));
  } else if (codepoint < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (codepoint >> 6)));
    tail(0);
  } else if (codepoint < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (codepoint >> 12)));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | (codepoint >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace thermocline::model
