// Writes the bytes of HTTP/1 responses.
//
// Source: RFC 9112.
#pragma once

#include <string>
#include <string_view>

#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

// How a response's body ends.
enum class BodyFraming : uint8_t { kLength, kChunked, kUntilClose };

struct ResponseFraming {
  BodyFraming body = BodyFraming::kLength;
  bool keep_alive = true;
  bool http_1_0 = false;
};

// Status line, headers and the empty line. Header values are our own or checked: no line breaks.
std::string ResponseHeadText(const HttpResponse& response, const ResponseFraming& framing);

std::string ChunkText(std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";
inline constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace thermocline::coordinator::http
