// The HTTP server of the coordinator.
#pragma once

#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/status.h"
#include "coordinator/generation_service.h"
#include "coordinator/http/options.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"

namespace thermocline::coordinator::http {

// Listens and serves on its own threads from Start to Stop. Thread-compatible.
class HttpServer {
 public:
  // What requests are answered with; borrowed, outlives the server.
  struct Services {
    GenerationService& service;
    const model::Tokenizer& tokenizer;
    const model::ChatTemplate* chat_template;  // null: chat requests are refused with a reason
    const Clock& clock;
    Metrics& metrics;
  };

  // kInvalidArgument: an option is out of range or the address cannot be resolved; kUnavailable: it
  // cannot be listened on, with the system's reason.
  static Result<std::unique_ptr<HttpServer>> Start(HttpOptions options, ModelCard card,
                                                   const Services& services);
  ~HttpServer();

  uint16_t port() const;
  // Stops listening, closes idle connections, gives open responses limits.stop_timeout to end, then
  // cancels the rest. No handler runs after it returns. A second call does nothing.
  void Stop();

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline::coordinator::http
