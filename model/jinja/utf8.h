// UTF-8 as Python sees a string: a sequence of code points. A byte that is not part of a valid
// sequence counts as one code point of its own, so that no input is lost or refused here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline::model::jinja {

// Bytes of the code point that starts at text[at]; at < text.size(). Never reads past the end.
size_t CodePointBytes(std::string_view text, size_t at);
// The code point that starts at text[at]; an invalid byte is U+FFFD.
uint32_t CodePointAt(std::string_view text, size_t at);
size_t CodePointCount(std::string_view text);
// Byte offset of code point number `index`; text.size() when there are fewer.
size_t ByteOffset(std::string_view text, size_t index);
// Surrogates and values above U+10FFFF become U+FFFD.
void AppendUtf8(uint32_t code_point, std::string& out);

// Python's str.isspace for one code point.
bool IsSpace(uint32_t code_point);
// A line end for str.splitlines: \n \r \v \f, the separators U+001C-1E, U+0085, U+2028, U+2029.
bool IsLineEnd(uint32_t code_point);
// Letters of ASCII, Latin-1, Latin Extended-A, Greek and Cyrillic; others count as letters when
// above U+00BF, so that words in other scripts stay whole.
bool IsLetter(uint32_t code_point);

// Case mapping for the same four alphabets; other code points stay as they are.
uint32_t ToUpper(uint32_t code_point);
uint32_t ToLower(uint32_t code_point);
std::string Upper(std::string_view text);
std::string Lower(std::string_view text);

// `text` without the leading or trailing code points that are spaces.
std::string_view TrimLeft(std::string_view text);
std::string_view TrimRight(std::string_view text);
// The same for the code points that occur in `chars`.
std::string_view TrimLeft(std::string_view text, std::string_view chars);
std::string_view TrimRight(std::string_view text, std::string_view chars);

}  // namespace thermocline::model::jinja
