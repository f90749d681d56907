// What the socket side and the handlers say to each other: plain requests and responses, and the
// exchange through which a handler answers, now or later, at once or piece by piece.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thermocline::coordinator::http {

enum class Method : uint8_t { kGet, kHead, kPost, kOptions, kOther };

// A complete request. Only the headers that a handler reads are kept.
struct HttpRequest {
  Method method = Method::kOther;
  std::string method_name;  // as the client spelt it
  std::string path;         // without the query
  std::string authorization, x_api_key, x_request_id, content_type, origin;
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  // besides length, type and connection
  std::string body;
};

// Answers one request. Either Reply once, or StartStream, any number of Write, EndStream.
//
// Post may be called from any thread while the exchange's server runs; everything else only on the
// exchange's own strand: within the handler, a posted function or the disconnect callback.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void Reply(HttpResponse response) = 0;
  // Sends the head of a streamed response. While nothing is written for a while, the server writes
  // `keep_alive`, which the body's format must ignore.
  virtual void StartStream(HttpResponse head, std::string_view keep_alive) = 0;
  virtual void Write(std::string bytes) = 0;
  virtual void EndStream() = 0;
  // Called once if the client goes away before the response is complete; released afterwards.
  virtual void OnDisconnect(std::function<void()> callback) = 0;
  // Runs `task` on the strand, later.
  virtual void Post(std::function<void()> task) = 0;
};

}  // namespace thermocline::coordinator::http
