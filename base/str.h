// Strings for messages: Str(parts...) concatenates, Kv("end", 9183) gives " end=9183".
#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace thermocline {

template <typename... Parts>
std::string Str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// One " name=value" of a message; values come last in every message.
template <typename T>
std::string Kv(std::string_view name, const T& value) {
  return Str(" ", name, "=", value);
}

// `text` with control bytes and quotes escaped and cut to `max_bytes`: safe to print when it came
// from a file or a socket.
std::string Printable(std::string_view text, size_t max_bytes = 120);

}  // namespace thermocline
