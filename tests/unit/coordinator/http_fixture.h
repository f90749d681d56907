// A running HTTP server over a fake service, for tests that talk to it through a socket.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "coordinator/http/server.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_generation_service.h"
#include "tests/support/http_client.h"

namespace thermocline::coordinator::http {

using testing::ByteTokenizer;
using testing::ClientResponse;
using testing::Fetch;
using testing::HttpClient;
using Json = nlohmann::json;

class HttpFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    auto parsed = model::ChatTemplate::Parse(*model::ChatTemplate::BuiltIn("chatml"));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    template_.emplace(std::move(parsed).value());
    options_.port = 0;
    options_.model_name = "tiny";
    options_.model_aliases = {"org/tiny"};
    HttpLimits& limits = options_.limits;
    limits.stop_timeout = std::chrono::milliseconds(200);
    // However long a client or the server is stalled.
    limits.header_timeout = limits.body_timeout = limits.idle_timeout = limits.write_timeout =
        limits.keep_alive_interval = std::chrono::hours(1);
  }

  // Starts the server with options_, on first use.
  HttpServer& server() {
    if (!server_) {
      auto started =
          HttpServer::Start(options_, {.architecture = "llama", .n_ctx_train = 2048, .n_params = 7},
                            {service_, tokenizer_, &*template_, clock_, metrics_});
      CHECK(started.ok());
      server_ = std::move(started).value();
    }
    return *server_;
  }
  uint16_t port() { return server().port(); }

  ClientResponse Get(std::string_view path, const std::vector<std::string>& headers = {}) {
    return Fetch(port(), "GET", path, "", headers);
  }
  ClientResponse Post(std::string_view path, const Json& body,
                      const std::vector<std::string>& headers = {}) {
    return Fetch(port(), "POST", path, body.dump(), headers);
  }
  Json PostJson(std::string_view path, const Json& body, int status = 200) {
    const ClientResponse response = Post(path, body);
    EXPECT_EQ(response.status, status) << response.body;
    return Json::parse(response.body);
  }

  HttpOptions options_;
  SteadyClock clock_;
  Metrics metrics_;
  testing::FakeGenerationService service_;
  ByteTokenizer tokenizer_;
  std::optional<model::ChatTemplate> template_;
  std::unique_ptr<HttpServer> server_;
};

inline Json Chat(const std::string& text) {
  return {{"messages", Json::array({{{"role", "user"}, {"content", text}}})}};
}

// Merges `more` into `body`.
inline Json With(Json body, const Json& more) {
  body.update(more);
  return body;
}

}  // namespace thermocline::coordinator::http
