#include "coordinator/http/wire.h"

#include <charconv>
#include <ctime>

namespace thermocline::coordinator::http {
namespace {

std::string_view Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
  }
  return "Unknown";
}

// "Sat, 21 Nov 2026 00:00:00 GMT" (RFC 9110, 5.6.7); by hand, because strftime obeys the locale.
std::string DateText() {
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[64];
  const int n = std::snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                              kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                              utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
  return std::string(text, static_cast<size_t>(n));
}

void AppendHeader(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

std::string ResponseHeadText(const HttpResponse& response, const ResponseFraming& framing) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " ";
  out.append(Reason(response.status)).append("\r\n");
  AppendHeader(out, "Server", "thermocline");
  AppendHeader(out, "Date", DateText());
  if (!response.content_type.empty()) AppendHeader(out, "Content-Type", response.content_type);
  for (const auto& [name, value] : response.headers) AppendHeader(out, name, value);
  const bool has_length = framing.body == BodyFraming::kLength && response.status != 204;
  if (has_length) AppendHeader(out, "Content-Length", std::to_string(response.body.size()));
  if (framing.body == BodyFraming::kChunked) AppendHeader(out, "Transfer-Encoding", "chunked");
  if (!framing.keep_alive) {
    AppendHeader(out, "Connection", "close");
  } else if (framing.http_1_0) {
    AppendHeader(out, "Connection", "keep-alive");
  }
  out.append("\r\n");
  return out;
}

std::string ChunkText(std::string_view bytes) {
  char size[16];
  const auto end = std::to_chars(size, size + sizeof(size), bytes.size(), 16).ptr;
  std::string out(size, end);
  out.append("\r\n").append(bytes).append("\r\n");
  return out;
}

}  // namespace thermocline::coordinator::http
