// A blocking HTTP client over a raw socket, for tests that care about bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline::testing {

struct ClientResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
};

// One connection. Reads give up after kPatience. Thread-compatible.
class HttpClient {
 public:
  // 0: the system's buffer.
  explicit HttpClient(uint16_t port, int receive_buffer_bytes = 0);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void Send(std::string_view bytes);
  void SendRequest(std::string_view method, std::string_view path, std::string_view body = "",
                   const std::vector<std::string>& headers = {});
  // Up to and with `end`; less when the server closes or is silent.
  std::string ReadUntil(std::string_view end);
  std::string ReadToEnd();
  // One whole response; status 0 when there is none. `has_body` is false after HEAD.
  ClientResponse ReadResponse(bool has_body = true);
  // The next bytes of a chunked body, one chunk; "" at its end.
  std::string ReadChunk();

  void ShutdownSend();
  // Closes with a reset, as a killed client's system does.
  void Reset();
  void Close();

 private:
  bool Fill();
  std::string Take(size_t n_bytes);

  int fd_ = -1;
  std::string buffer_;
};

// A request on a connection of its own.
ClientResponse Fetch(uint16_t port, std::string_view method, std::string_view path,
                     std::string_view body = "", const std::vector<std::string>& headers = {});

}  // namespace thermocline::testing
