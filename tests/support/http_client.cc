#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "base/check.h"
#include "tests/support/patience.h"

namespace thermocline::testing {

HttpClient::HttpClient(uint16_t port, int receive_buffer_bytes)
    : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const auto patience = std::chrono::duration_cast<std::chrono::seconds>(kPatience);
  const timeval timeout{.tv_sec = patience.count(), .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  if (receive_buffer_bytes > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
}

HttpClient::~HttpClient() { Close(); }

void HttpClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the server has closed; the test sees that when it reads
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void HttpClient::SendRequest(std::string_view method, std::string_view path, std::string_view body,
                             const std::vector<std::string>& headers) {
  std::ostringstream out;
  out << method << " " << path << " HTTP/1.1\r\nHost: localhost\r\n";
  for (const std::string& header : headers) out << header << "\r\n";
  if (!body.empty()) {
    out << "Content-Type: application/json\r\nContent-Length: " << body.size() << "\r\n";
  }
  out << "\r\n" << body;
  Send(out.str());
}

bool HttpClient::Fill() {
  char bytes[16384];
  const ssize_t n = recv(fd_, bytes, sizeof(bytes), 0);
  if (n > 0) buffer_.append(bytes, static_cast<size_t>(n));
  return n > 0;
}

std::string HttpClient::Take(size_t n_bytes) {
  while (buffer_.size() < n_bytes && Fill()) {
  }
  std::string taken = buffer_.substr(0, n_bytes);
  buffer_.erase(0, taken.size());
  return taken;
}

std::string HttpClient::ReadUntil(std::string_view end) {
  size_t at = buffer_.find(end);
  while (at == std::string::npos && Fill()) at = buffer_.find(end);
  return Take(at == std::string::npos ? buffer_.size() : at + end.size());
}

std::string HttpClient::ReadToEnd() {
  while (Fill()) {
  }
  return Take(buffer_.size());
}

ClientResponse HttpClient::ReadResponse(bool has_body) {
  ClientResponse response;
  std::istringstream head(ReadUntil("\r\n\r\n"));
  std::string line;
  std::getline(head, line);
  if (line.size() < 12) return response;
  response.status = std::stoi(line.substr(9, 3));
  while (std::getline(head, line) && line.size() > 1) {
    const size_t colon = line.find(':');
    std::string name = line.substr(0, colon);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    response.headers[name] = line.substr(colon + 2, line.size() - colon - 3);
  }
  if (!has_body || response.status == 204 || response.status < 200) return response;
  if (response.headers.contains("content-length")) {
    response.body = Take(std::stoul(response.headers["content-length"]));
  } else if (response.headers.contains("transfer-encoding")) {
    for (std::string chunk = ReadChunk(); !chunk.empty(); chunk = ReadChunk()) {
      response.body += chunk;
    }
  } else {
    response.body = ReadToEnd();
  }
  return response;
}

std::string HttpClient::ReadChunk() {
  const std::string size = ReadUntil("\r\n");
  if (size.size() < 3) return "";
  std::string chunk = Take(std::stoul(size, nullptr, 16));
  ReadUntil("\r\n");
  return chunk;
}

void HttpClient::ShutdownSend() { shutdown(fd_, SHUT_WR); }

void HttpClient::Reset() {
  const linger reset{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  Close();
}

void HttpClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

ClientResponse Fetch(uint16_t port, std::string_view method, std::string_view path,
                     std::string_view body, const std::vector<std::string>& headers) {
  HttpClient client(port);
  client.SendRequest(method, path, body, headers);
  return client.ReadResponse(method != "HEAD");
}

}  // namespace thermocline::testing
