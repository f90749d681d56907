#include "coordinator/http/server.h"

#include <fcntl.h>
#include <pthread.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/str.h"
#include "coordinator/http/api.h"
#include "coordinator/http/connection.h"

namespace thermocline::coordinator::http {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

// Wait after a failed accept, e.g. for want of file descriptors.
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
// Connections beyond the limit that get a 503; past these they are closed at once.
constexpr size_t kMaxRefusedConnections = 64;
// Aborted connections close as soon as a thread gets to them.
constexpr auto kAbortTimeout = std::chrono::seconds(5);

std::string AddressText(const HttpOptions& options) {
  const bool v6 = options.address.find(':') != std::string::npos;
  return v6 ? Str("[", options.address, "]:", options.port)
            : Str(options.address, ":", options.port);
}

Status ListenError(const HttpOptions& options, const ErrorCode& error) {
  if (error == asio::error::address_in_use) {
    return Unavailable(Str("cannot listen on ", AddressText(options),
                           ": address already in use; choose another with --port"));
  }
  return Unavailable(Str("cannot listen on ", AddressText(options), ": ", error.message()));
}

}  // namespace

// Owns the threads, the listening socket and the list of connections.
class HttpServer::Impl {
 public:
  Impl(HttpOptions options, ModelCard card, const Services& services)
      : options_(std::move(options)),
        card_(std::move(card)),
        api_({options_, card_, services.service, services.tokenizer, services.chat_template,
              services.clock, services.metrics}),
        io_(options_.n_threads),
        acceptor_(asio::make_strand(io_)),
        accept_timer_(acceptor_.get_executor()) {}

  ~Impl() { Stop(); }

  Status Listen();
  void Run();
  void Stop();
  uint16_t port() const { return port_; }

 private:
  Status Resolve(tcp::endpoint* endpoint);
  void Accept();
  void OnAccept(const ErrorCode& error, tcp::socket socket);
  void Admit(tcp::socket socket);
  void Forget(Connection* connection);
  std::vector<std::shared_ptr<Connection>> LiveConnections();
  bool WaitUntilEmpty(std::chrono::milliseconds timeout);

  const HttpOptions options_;
  const ModelCard card_;
  Api api_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  tcp::acceptor acceptor_;
  asio::steady_timer accept_timer_;
  uint16_t port_ = 0;
  std::vector<std::thread> threads_;

  Mutex mutex_;
  CondVar changed_;
  std::unordered_map<Connection*, std::weak_ptr<Connection>> connections_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

Status HttpServer::Impl::Resolve(tcp::endpoint* endpoint) {
  ErrorCode error;
  tcp::resolver resolver(io_);
  const auto found = resolver.resolve(options_.address, std::to_string(options_.port),
                                      tcp::resolver::passive, error);
  if (error || found.empty()) {
    return InvalidArgument(
        Str("cannot resolve the listening address ", options_.address, ": ", error.message()));
  }
  *endpoint = found.begin()->endpoint();
  return OkStatus();
}

Status HttpServer::Impl::Listen() {
  tcp::endpoint endpoint;
  TC_RETURN_IF_ERROR(Resolve(&endpoint));
  ErrorCode error;
  acceptor_.open(endpoint.protocol(), error);
  // A worker started beside the coordinator must not hold the port.
  if (!error) fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return ListenError(options_, error);
  port_ = acceptor_.local_endpoint(error).port();
  return error ? ListenError(options_, error) : OkStatus();
}

void HttpServer::Impl::Run() {
  Accept();
  for (int i = 0; i < options_.n_threads; ++i) {
    threads_.emplace_back([this] { io_.run(); });
    pthread_setname_np(threads_.back().native_handle(), Str("http-", i).c_str());
  }
}

void HttpServer::Impl::Accept() {
  acceptor_.async_accept(
      asio::make_strand(io_),
      [this](const ErrorCode& error, tcp::socket socket) { OnAccept(error, std::move(socket)); });
}

void HttpServer::Impl::OnAccept(const ErrorCode& error, tcp::socket socket) {
  if (!acceptor_.is_open()) return;
  if (!error) {
    Admit(std::move(socket));
    return Accept();
  }
  LogWarn("http", Str("accept failed: ", error.message()));
  accept_timer_.expires_after(kAcceptRetry);
  accept_timer_.async_wait([this](const ErrorCode& cancelled) {
    if (!cancelled && acceptor_.is_open()) Accept();
  });
}

void HttpServer::Impl::Admit(tcp::socket socket) {
  const Connection::Hooks hooks{[this](HttpRequest request, std::shared_ptr<Exchange> exchange) {
                                  api_.Handle(std::move(request), std::move(exchange));
                                },
                                [this](Connection* connection) { Forget(connection); }};
  size_t n_others = 0;
  std::shared_ptr<Connection> connection;
  {
    const MutexLock lock(mutex_);
    n_others = connections_.size();
    const auto max = static_cast<size_t>(options_.limits.max_connections);
    if (stopping_ || n_others >= max + kMaxRefusedConnections) return;  // closes the socket
    connection = std::make_shared<Connection>(std::move(socket), options_.limits, hooks);
    connections_.emplace(connection.get(), connection);
  }
  api_.request_metrics().connections.Add(1);
  if (n_others < static_cast<size_t>(options_.limits.max_connections)) return connection->Start();
  connection->StartRefused();
}

void HttpServer::Impl::Forget(Connection* connection) {
  api_.request_metrics().connections.Add(-1);
  const MutexLock lock(mutex_);
  connections_.erase(connection);
  changed_.notify_all();
}

std::vector<std::shared_ptr<Connection>> HttpServer::Impl::LiveConnections() {
  const MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Connection>> live;
  for (const auto& [pointer, weak] : connections_) {
    if (auto connection = weak.lock()) live.push_back(std::move(connection));
  }
  return live;
}

bool HttpServer::Impl::WaitUntilEmpty(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const MutexLock lock(mutex_);
  while (!connections_.empty()) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
  }
  return connections_.empty();
}

void HttpServer::Impl::Stop() {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(stopping_, true)) return;
  }
  asio::post(acceptor_.get_executor(), [this] {
    ErrorCode ignored;
    acceptor_.close(ignored);
    accept_timer_.cancel();
  });
  if (!threads_.empty()) {
    for (const auto& connection : LiveConnections()) connection->Shutdown();
    if (!WaitUntilEmpty(options_.limits.stop_timeout)) {
      for (const auto& connection : LiveConnections()) connection->Abort();
      WaitUntilEmpty(kAbortTimeout);
    }
  }
  io_.stop();
  for (std::thread& thread : threads_) thread.join();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::Start(HttpOptions options, ModelCard card,
                                                      const Services& services) {
  if (options.n_threads < 1 || options.limits.max_connections < 1) {
    return InvalidArgument(
        Str("HTTP needs at least one thread and one connection:", Kv("threads", options.n_threads),
            Kv("max_connections", options.limits.max_connections)));
  }
  auto impl = std::make_unique<Impl>(std::move(options), std::move(card), services);
  TC_RETURN_IF_ERROR(impl->Listen());
  impl->Run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

uint16_t HttpServer::port() const { return impl_->port(); }
void HttpServer::Stop() { impl_->Stop(); }

}  // namespace thermocline::coordinator::http
