#include "coordinator/http/connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/string.hpp>
#include <utility>

#include "coordinator/http/api_error.h"
#include "coordinator/http/wire.h"

namespace thermocline::coordinator::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using tcp = asio::ip::tcp;

// One read. Larger bodies take several.
constexpr size_t kReadBytes = 16 * kKiB;
// What a client may send ahead while its request is answered; then we stop reading until it is.
constexpr size_t kMaxReadAheadBytes = 64 * kKiB;

Method MethodOf(beast::http::verb verb) {
  switch (verb) {
    case beast::http::verb::get:
      return Method::kGet;
    case beast::http::verb::head:
      return Method::kHead;
    case beast::http::verb::post:
      return Method::kPost;
    case beast::http::verb::options:
      return Method::kOptions;
    default:
      return Method::kOther;
  }
}

// The path of "/a/b?c" or of the absolute form "http://host/a/b?c" that proxies send.
std::string PathOf(std::string_view target) {
  if (const size_t scheme = target.find("://"); scheme < target.find('/')) {
    const size_t path = target.find('/', scheme + 3);
    target = path == target.npos ? "/" : target.substr(path);
  }
  return std::string(target.substr(0, target.find_first_of("?#")));
}

HttpRequest Plain(beast::http::request<beast::http::string_body> message) {
  const auto header = [&message](beast::string_view name) { return std::string(message[name]); };
  HttpRequest request{.method = MethodOf(message.method()),
                      .method_name = std::string(message.method_string()),
                      .path = PathOf(message.target()),
                      .authorization = header("Authorization"),
                      .x_api_key = header("X-Api-Key"),
                      .x_request_id = header("X-Request-Id"),
                      .content_type = header("Content-Type"),
                      .origin = header("Origin")};
  request.body = std::move(message.body());
  return request;
}

}  // namespace

class Connection::RequestExchange final : public Exchange {
 public:
  RequestExchange(std::shared_ptr<Connection> connection, uint64_t serial)
      : connection_(std::move(connection)), serial_(serial) {}

  void Reply(HttpResponse response) override { connection_->Reply(serial_, std::move(response)); }
  void StartStream(HttpResponse head, std::string_view keep_alive) override {
    connection_->StartStream(serial_, std::move(head), keep_alive);
  }
  void Write(std::string bytes) override { connection_->Write(serial_, bytes); }
  void EndStream() override { connection_->EndStream(serial_); }
  void OnDisconnect(std::function<void()> callback) override {
    if (connection_->IsCurrent(serial_)) connection_->on_disconnect_ = std::move(callback);
  }
  void Post(std::function<void()> task) override {
    asio::post(connection_->strand_, std::move(task));
  }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t serial_;
};

Connection::Connection(tcp::socket socket, const HttpLimits& limits, Hooks hooks)
    : socket_(std::move(socket)),
      strand_(socket_.get_executor()),
      limits_(limits),
      hooks_(std::move(hooks)),
      read_timer_(strand_),
      write_timer_(strand_),
      keep_alive_timer_(strand_) {}

void Connection::Start() {
  asio::post(strand_, [self = shared_from_this()] {
    ErrorCode ignored;
    self->socket_.set_option(tcp::no_delay(true), ignored);
    self->Arm(self->read_timer_, self->limits_.header_timeout, &Connection::OnReadTimeout);
    self->ReadMore();
  });
}

void Connection::StartRefused() {
  asio::post(strand_, [self = shared_from_this()] {
    self->ReplyAndClose(503, "the server has too many connections", "too_many_connections");
  });
}

void Connection::Shutdown() {
  asio::post(strand_, [self = shared_from_this()] {
    self->keep_alive_ = false;
    if (self->state_ == State::kReading) self->Close();
  });
}

void Connection::Abort() {
  asio::post(strand_, [self = shared_from_this()] { self->Close(); });
}

// ---- input

void Connection::ReadMore() {
  const bool full = input_.size() >= kMaxReadAheadBytes;
  if (reading_ || full || state_ == State::kClosed) return;
  reading_ = true;
  socket_.async_read_some(input_.prepare(kReadBytes),
                          [self = shared_from_this()](const ErrorCode& error, size_t n_bytes) {
                            self->OnRead(error, n_bytes);
                          });
}

void Connection::OnRead(const ErrorCode& error, size_t n_bytes) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (error) return OnInputEnd();
  input_.commit(n_bytes);
  if (state_ == State::kReading) return ParseInput();
  if (state_ == State::kLingering) input_.clear();
  ReadMore();
}

void Connection::OnInputEnd() {
  // A complete answer still goes out to a client that has shut down its sending side.
  const bool flushing = state_ == State::kHandling && response_done_;
  if (!flushing) return Close();
  keep_alive_ = false;
}

void Connection::ParseInput() {
  while (state_ == State::kReading && input_.size() > 0) {
    if (!parser_) BeginRequest();
    ErrorCode error;
    const size_t n_used = parser_->put(input_.data(), error);
    input_.consume(n_used);
    if (error && error != beast::http::error::need_more) return RefuseInput(error);
    if (!headers_seen_ && parser_->is_header_done()) OnHeaders();
    if (parser_->is_done()) return Dispatch();
    if (n_used == 0) break;
  }
  ReadMore();
}

void Connection::BeginRequest() {
  parser_.emplace();
  parser_->eager(true);
  parser_->header_limit(static_cast<uint32_t>(limits_.max_header_bytes));
  parser_->body_limit(limits_.max_body_bytes);
  headers_seen_ = false;
  Arm(read_timer_, limits_.header_timeout, &Connection::OnReadTimeout);
}

void Connection::OnHeaders() {
  headers_seen_ = true;
  if (parser_->is_done()) return;
  Arm(read_timer_, limits_.body_timeout, &Connection::OnReadTimeout);
  const auto expect = parser_->get()[beast::http::field::expect];
  if (beast::iequals(expect, "100-continue") && parser_->get().version() >= 11) Send(kContinue);
}

void Connection::Dispatch() {
  auto message = parser_->release();
  parser_.reset();
  state_ = State::kHandling;
  ++serial_;
  keep_alive_ = keep_alive_ && message.keep_alive();
  http_1_0_ = message.version() < 11;
  head_only_ = message.method() == beast::http::verb::head;
  streaming_ = response_done_ = false;
  read_timer_.expires_at(Timer::time_point::max());
  ReadMore();
  hooks_.handle(Plain(std::move(message)),
                std::make_shared<RequestExchange>(shared_from_this(), serial_));
}

void Connection::RefuseInput(const ErrorCode& error) {
  if (error == beast::http::error::header_limit) {
    return ReplyAndClose(431, "request line and headers are too large", "headers_too_large");
  }
  if (error == beast::http::error::body_limit) {
    return ReplyAndClose(413, "the body is too large", "body_too_large");
  }
  ReplyAndClose(400, "the request is not valid HTTP/1.1: " + error.message(), "invalid_http");
}

void Connection::OnReadTimeout() {
  if (state_ == State::kLingering) return Close();
  if (state_ != State::kReading) return;
  if (!parser_) return Close();  // idle, nothing asked
  ReplyAndClose(408, "the request did not arrive in time", "request_timeout");
}

// ---- output

bool Connection::IsCurrent(uint64_t serial) const {
  return state_ == State::kHandling && serial == serial_ && !response_done_;
}

void Connection::Reply(uint64_t serial, HttpResponse response) {
  if (!IsCurrent(serial) || streaming_) return;
  response_done_ = true;
  on_disconnect_ = nullptr;
  std::string bytes = ResponseHeadText(
      response, {.body = BodyFraming::kLength, .keep_alive = keep_alive_, .http_1_0 = http_1_0_});
  if (!head_only_) bytes += response.body;
  Send(bytes);
}

void Connection::StartStream(uint64_t serial, HttpResponse head, std::string_view keep_alive) {
  if (!IsCurrent(serial) || streaming_) return;
  streaming_ = true;
  // HTTP/1.0 knows no chunks: the end of the connection ends the body.
  if (http_1_0_) keep_alive_ = false;
  const BodyFraming framing = http_1_0_ ? BodyFraming::kUntilClose : BodyFraming::kChunked;
  Send(ResponseHeadText(head, {.body = framing, .keep_alive = keep_alive_, .http_1_0 = http_1_0_}));
  stream_keep_alive_ = keep_alive;
  Arm(keep_alive_timer_, limits_.keep_alive_interval, &Connection::KeepStreamAlive);
}

void Connection::Write(uint64_t serial, std::string_view bytes) {
  if (!IsCurrent(serial) || !streaming_ || bytes.empty()) return;
  if (unsent_.size() > limits_.max_unsent_bytes) return Abort();
  Send(http_1_0_ ? std::string(bytes) : ChunkText(bytes));
  Arm(keep_alive_timer_, limits_.keep_alive_interval, &Connection::KeepStreamAlive);
}

void Connection::KeepStreamAlive() {
  if (state_ == State::kHandling && streaming_) Write(serial_, stream_keep_alive_);
}

void Connection::EndStream(uint64_t serial) {
  if (!IsCurrent(serial) || !streaming_) return;
  response_done_ = true;
  on_disconnect_ = nullptr;
  keep_alive_timer_.expires_at(Timer::time_point::max());
  if (!http_1_0_) Send(kLastChunk);
  if (!writing_) NextRequest();
}

void Connection::ReplyAndClose(int status, std::string message, std::string code) {
  state_ = State::kHandling;
  ++serial_;
  parser_.reset();
  keep_alive_ = false;
  streaming_ = response_done_ = head_only_ = false;
  const char* type = status == 503 ? "unavailable_error" : "invalid_request_error";
  Reply(serial_, ErrorResponse({.status = status,
                                .message = std::move(message),
                                .type = type,
                                .code = std::move(code),
                                .retry_after_s = status == 503 ? 1 : 0}));
}

void Connection::Send(std::string_view bytes) {
  unsent_.append(bytes);
  if (!writing_) WriteMore();
}

void Connection::WriteMore() {
  writing_ = true;
  if (n_in_flight_sent_ == in_flight_.size()) {
    in_flight_.clear();
    std::swap(in_flight_, unsent_);
    n_in_flight_sent_ = 0;
  }
  Arm(write_timer_, limits_.write_timeout, &Connection::Close);
  socket_.async_write_some(asio::buffer(in_flight_) + n_in_flight_sent_,
                           [self = shared_from_this()](const ErrorCode& error, size_t n_bytes) {
                             self->OnWritten(error, n_bytes);
                           });
}

void Connection::OnWritten(const ErrorCode& error, size_t n_bytes) {
  writing_ = false;
  if (state_ == State::kClosed) return;
  if (error) return Close();
  n_in_flight_sent_ += n_bytes;
  if (n_in_flight_sent_ < in_flight_.size() || !unsent_.empty()) return WriteMore();
  write_timer_.expires_at(Timer::time_point::max());
  if (state_ == State::kHandling && response_done_) NextRequest();
}

void Connection::NextRequest() {
  if (!keep_alive_) return Linger();
  state_ = State::kReading;
  Arm(read_timer_, limits_.idle_timeout, &Connection::OnReadTimeout);
  ParseInput();
}

// Sends the end of our side and waits for the client's: closing with unread input would reset the
// connection and could destroy the response on its way.
void Connection::Linger() {
  state_ = State::kLingering;
  ErrorCode ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  input_.clear();
  Arm(read_timer_, limits_.linger_timeout, &Connection::OnReadTimeout);
  ReadMore();
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  for (Timer* timer : {&read_timer_, &write_timer_, &keep_alive_timer_}) {
    timer->expires_at(Timer::time_point::max());
  }
  ErrorCode ignored;
  socket_.close(ignored);
  if (const auto callback = std::exchange(on_disconnect_, nullptr)) callback();
  hooks_.closed(this);
}

// A timer set again cancels its earlier wait; one that had already expired then sees the new time.
void Connection::Arm(Timer& timer, std::chrono::milliseconds after, void (Connection::*expired)()) {
  timer.expires_after(after);
  timer.async_wait([self = shared_from_this(), &timer, expired](const ErrorCode& error) {
    if (error || timer.expiry() > Timer::clock_type::now()) return;
    (self.get()->*expired)();
  });
}

}  // namespace thermocline::coordinator::http
