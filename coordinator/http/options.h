// What the coordinator's main hands to the HTTP server.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/units.h"

namespace thermocline::coordinator::http {

// Bounds on what a client may hold or send.
struct HttpLimits {
  int max_connections = 512;              // open at once; more get 503
  uint64_t max_header_bytes = 16 * kKiB;  // request line and headers; 431
  uint64_t max_body_bytes = 8 * kMiB;     // 413; a 1M-token prompt as ids fits
  uint64_t max_unsent_bytes = 4 * kMiB;   // of one stream; a client that far behind is dropped
  std::chrono::milliseconds header_timeout{10'000};  // from the first byte; 408
  std::chrono::milliseconds body_timeout{30'000};    // from the end of the headers; 408
  std::chrono::milliseconds idle_timeout{75'000};    // between requests; nginx's default
  std::chrono::milliseconds write_timeout{30'000};   // without any progress of a write
  std::chrono::milliseconds linger_timeout{1'000};   // for the client to read the last response
  std::chrono::milliseconds keep_alive_interval{15'000};  // of silence in a stream
  std::chrono::milliseconds stop_timeout{5'000};          // Stop waits this long for open responses
};

struct HttpOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 8080;  // 0: any free one
  int n_threads = 2;
  std::vector<std::string> api_keys;              // empty: no key is asked for
  std::vector<std::string> cors_origins;          // allowed origins, or "*"; empty: none
  std::string model_name;                         // as clients see it
  std::vector<std::string> model_aliases;         // also accepted in requests
  std::chrono::milliseconds stall_after{30'000};  // no token for this long while busy: stalled
  HttpLimits limits;
};

// What /v1/models says about the model beside its name.
struct ModelCard {
  std::string architecture;
  int n_ctx_train = 0;
  uint64_t n_params = 0;
  uint64_t size_bytes = 0;
  int64_t created = 0;  // Unix time, seconds
};

}  // namespace thermocline::coordinator::http
