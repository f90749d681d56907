// One client's TCP connection: parses requests, hands them on, writes responses, keeps the
// timeouts. With server.cc, the only code that sees Boost.Asio and Beast.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/http/message.h"
#include "coordinator/http/options.h"

namespace thermocline::coordinator::http {

// Requests of one connection are answered one after the other; while one is, bytes of the next wait
// in the input buffer, and the end of input means that the client has gone. Shared by its pending
// operations and the exchange of its request. Start, Shutdown and Abort may be called from any
// thread; everything else runs on the strand that the socket belongs to.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Hooks {
    std::function<void(HttpRequest request, std::shared_ptr<Exchange> exchange)> handle;
    std::function<void(Connection* connection)> closed;  // once, last
  };

  Connection(boost::asio::ip::tcp::socket socket, const HttpLimits& limits, Hooks hooks);

  void Start();
  // Answers 503 whatever the client says, and closes.
  void StartRefused();
  // Closes once the current response is complete; at once when there is none.
  void Shutdown();
  void Abort();

 private:
  class RequestExchange;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using ErrorCode = boost::system::error_code;
  using Timer = boost::asio::steady_timer;
  enum class State : uint8_t { kReading, kHandling, kLingering, kClosed };

  void ReadMore();
  void OnRead(const ErrorCode& error, size_t n_bytes);
  void ParseInput();
  void BeginRequest();
  void OnHeaders();
  void Dispatch();
  void OnInputEnd();
  void RefuseInput(const ErrorCode& error);
  void OnReadTimeout();

  // Of the exchange; `serial` tells the current request from earlier ones.
  bool IsCurrent(uint64_t serial) const;
  void Reply(uint64_t serial, HttpResponse response);
  void StartStream(uint64_t serial, HttpResponse head, std::string_view keep_alive);
  void Write(uint64_t serial, std::string_view bytes);
  void EndStream(uint64_t serial);

  // Answers without a handler, and closes afterwards.
  void ReplyAndClose(int status, std::string message, std::string code);
  void Send(std::string_view bytes);
  void WriteMore();
  void OnWritten(const ErrorCode& error, size_t n_bytes);
  void KeepStreamAlive();
  void NextRequest();
  void Linger();
  void Close();
  void Arm(Timer& timer, std::chrono::milliseconds after, void (Connection::*expired)());

  boost::asio::ip::tcp::socket socket_;
  const boost::asio::any_io_executor strand_;
  const HttpLimits limits_;
  const Hooks hooks_;
  State state_ = State::kReading;
  Timer read_timer_, write_timer_, keep_alive_timer_;

  boost::beast::flat_buffer input_;
  bool reading_ = false;
  std::optional<Parser> parser_;
  bool headers_seen_ = false;

  uint64_t serial_ = 0;
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  bool head_only_ = false;
  bool streaming_ = false;
  bool response_done_ = false;
  std::string stream_keep_alive_;
  std::function<void()> on_disconnect_;

  std::string in_flight_, unsent_;
  size_t n_in_flight_sent_ = 0;
  bool writing_ = false;
};

}  // namespace thermocline::coordinator::http
