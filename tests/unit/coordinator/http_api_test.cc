// The routes, seen through a socket: what each answers, and how requests are refused.
#include <gmock/gmock.h>

#include "tests/unit/coordinator/http_fixture.h"

namespace thermocline::coordinator::http {
namespace {

using ::testing::HasSubstr;
using HttpApiTest = HttpFixture;

TEST_F(HttpApiTest, ListsTheModelUnderAllItsNames) {
  const Json body = Json::parse(Get("/v1/models").body);
  EXPECT_EQ(body["object"], "list");
  ASSERT_EQ(body["data"].size(), 2u);
  EXPECT_EQ(body["data"][0]["id"], "tiny");
  EXPECT_EQ(body["data"][0]["object"], "model");
  EXPECT_EQ(body["data"][0]["max_model_len"], 1024);
  EXPECT_EQ(body["data"][0]["meta"]["n_ctx_train"], 2048);
  EXPECT_EQ(Json::parse(Get("/models/org/tiny").body)["id"], "org/tiny");
  EXPECT_EQ(Json::parse(Get("/v1/models/org%2Ftiny").body)["id"], "org/tiny");
  const ClientResponse missing = Get("/v1/models/none");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(Json::parse(missing.body)["error"]["code"], "model_not_found");
}

TEST_F(HttpApiTest, TokenizesInBothShapes) {
  EXPECT_EQ(PostJson("/tokenize", {{"content", "Hi"}})["tokens"], Json({72, 105}));
  const Json vllm = PostJson("/tokenize", {{"prompt", "Hi"}, {"return_token_strs", true}});
  EXPECT_EQ(vllm["count"], 2);
  EXPECT_EQ(vllm["max_model_len"], 1024);
  EXPECT_EQ(vllm["token_strs"], Json({"H", "i"}));
  const Json pieces = PostJson("/tokenize", {{"content", "\u00e9"}, {"with_pieces", true}});
  EXPECT_EQ(pieces["tokens"][0], Json({{"id", 195}, {"piece", {195}}}));
  const Json chat = PostJson("/tokenize", Chat("Hi"));
  EXPECT_EQ(chat["count"],
            std::string("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n").size());
  EXPECT_EQ(PostJson("/tokenize", Json::object(), 400)["error"]["param"], "prompt");
}

TEST_F(HttpApiTest, DetokenizesForBoth) {
  const Json body = PostJson("/v1/detokenize", {{"tokens", {72, 105}}});
  EXPECT_EQ(body["prompt"], "Hi");
  EXPECT_EQ(body["content"], "Hi");
  EXPECT_EQ(PostJson("/detokenize", {{"tokens", {9999}}}, 400)["error"]["param"], "tokens");
}

TEST_F(HttpApiTest, AppliesTheTemplate) {
  EXPECT_EQ(PostJson("/apply-template", Chat("Hi"))["prompt"],
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST_F(HttpApiTest, HealthAnswersItsThreeQuestions) {
  EXPECT_EQ(Get("/health").body, R"({"status":"ok"})");
  EXPECT_EQ(Get("/health/live").status, 200);
  EXPECT_EQ(Get("/v2/health/ready").status, 200);
  EXPECT_EQ(Json::parse(Get("/health/progress").body)["status"], "idle");

  service_.SetStatus({.state = ServiceState::kReady, .n_running = 1, .last_token_age_s = 31});
  EXPECT_EQ(Get("/health/progress").status, 503);
  EXPECT_EQ(Json::parse(Get("/health/progress").body)["status"], "stalled");
  service_.SetStatus({.state = ServiceState::kReady,
                      .n_running = 1,
                      .last_token_age_s = 31,
                      .plan = {.is_changing = true, .streams_wait = true}});
  EXPECT_EQ(Json::parse(Get("/health/progress").body)["status"], "changing");
  EXPECT_EQ(Get("/health").status, 200);
}

TEST_F(HttpApiTest, LoadingTellsItsProgress) {
  ServiceStatus status{.state = ServiceState::kLoading};
  status.workers = {{.bytes_done = 30, .bytes_total = 60}, {.bytes_done = 11, .bytes_total = 40}};
  service_.SetStatus(status);
  const ClientResponse health = Get("/health/ready");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(Get("/health/live").status, 200);
  const ClientResponse refused = Post("/v1/chat/completions", Chat("Hi"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "5");
  EXPECT_EQ(Json::parse(refused.body)["error"], Json({{"message", "loading the model: 41 %"},
                                                      {"type", "unavailable_error"},
                                                      {"param", nullptr},
                                                      {"code", "loading"}}));
  service_.SetStatus({.state = ServiceState::kDraining});
  EXPECT_EQ(PostJson("/v1/completions", {{"prompt", "x"}}, 503)["error"]["code"], "draining");
}

TEST_F(HttpApiTest, MetricsCountRequestsByRoute) {
  Get("/v1/models");
  Get("/nowhere/at/all");
  Post("/v1/completions", {{"prompt", "x"}});
  const ClientResponse metrics = Get("/metrics");
  EXPECT_EQ(metrics.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(metrics.body, HasSubstr("http_requests_total{handler=\"/models\",method=\"GET\","
                                      "status=\"200\"} 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("http_requests_total{handler=\"unknown\",method=\"GET\","
                                      "status=\"404\"} 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("vllm:request_success_total{model_name=\"tiny\","
                                      "finished_reason=\"stop\",engine=\"0\"} 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("thermocline_http_connections "));
}

TEST_F(HttpApiTest, VersionClusterAndPage) {
  EXPECT_EQ(Json::parse(Get("/version").body)["name"], "thermocline");
  const Json cluster = Json::parse(Get("/v1/cluster").body);
  EXPECT_EQ(cluster["state"], "ready");
  EXPECT_EQ(cluster["model"], "tiny");
  const ClientResponse page = Get("/");
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("default-src 'none'"));
  EXPECT_THAT(page.body, HasSubstr("</html>"));
  EXPECT_EQ(page.body.find("http://"), std::string::npos);
  EXPECT_EQ(page.body.find("https://"), std::string::npos);
}

TEST_F(HttpApiTest, ClusterTellsHowLinksTravel) {
  ServiceStatus status{.state = ServiceState::kReady};
  status.plan.links = {{{1}, {3}, placement::LinkKind::kMpi, DType::kF16}};
  service_.SetStatus(status);
  const Json links = Json::parse(Get("/v1/cluster").body)["plan"]["links"];
  EXPECT_EQ(links, Json::parse(R"([{"from":1,"to":3,"transport":"mpi","wire":"F16"}])"));
  status.plan.links[0].latency_s = placement::Figure::Measured(25e-6);
  status.plan.links[0].bytes_per_s = placement::Figure::Measured(1.5e9);
  service_.SetStatus(status);
  const Json link = Json::parse(Get("/v1/cluster").body)["plan"]["links"][0];
  EXPECT_NEAR(link["latency_us"].get<double>(), 25, 1e-9);
  EXPECT_EQ(link["gb_per_s"], 1.5);
  EXPECT_EQ(link["measured"], true);
}

TEST_F(HttpApiTest, ClusterTellsTheGpusOfEachWorker) {
  ServiceStatus status{.state = ServiceState::kReady};
  status.workers.resize(2);
  status.workers[0].gpus = {
      {.name = "G",
       .memory_bytes = 80,
       .numa_node = -1,
       .read_bytes_per_s = placement::Figure::Measured(3e12),
       .peers = {{.gpu = 1, .path = placement::GpuPath::kHostBridge, .n_nvlinks = 4}}},
      {}};
  service_.SetStatus(status);
  const Json workers = Json::parse(Get("/v1/cluster").body)["workers"];
  ASSERT_EQ(workers[0]["gpus"].size(), 2u);
  const Json& gpu = workers[0]["gpus"][0];
  EXPECT_EQ(gpu["name"], "G");
  EXPECT_EQ(gpu["memory_bytes"], 80);
  EXPECT_EQ(gpu["read_bytes_per_s"]["value"], 3e12);
  EXPECT_EQ(gpu["read_bytes_per_s"]["origin"], "measured");
  EXPECT_EQ(gpu["peers"][0]["path"], "host bridge");
  EXPECT_EQ(gpu["peers"][0]["nvlinks"], 4);
  EXPECT_TRUE(gpu["peers"][0]["bytes_per_s"].is_null());
  EXPECT_TRUE(workers[1]["gpus"].empty());
}

TEST_F(HttpApiTest, UnknownPathsAndMethodsGetErrorObjects) {
  const ClientResponse unknown = Get("/v1/nothing");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(Json::parse(unknown.body)["error"]["code"], "unknown_url");
  const ClientResponse wrong = Get("/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
  EXPECT_EQ(Json::parse(wrong.body)["error"]["type"], "invalid_request_error");
  EXPECT_EQ(PostJson("/v1/embeddings", {{"input", "x"}}, 501)["error"]["code"], "not_implemented");
}

TEST_F(HttpApiTest, HeadHasTheLengthButNoBody) {
  HttpClient client(port());
  client.SendRequest("HEAD", "/health");
  const ClientResponse head = client.ReadResponse(/*has_body=*/false);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "15");
  client.SendRequest("GET", "/health");
  EXPECT_EQ(client.ReadResponse().body.size(), 15u);
}

TEST_F(HttpApiTest, CorsIsOffUnlessAllowed) {
  const std::vector<std::string> origin = {"Origin: http://app.example"};
  EXPECT_FALSE(Get("/health", origin).headers.contains("access-control-allow-origin"));
  const ClientResponse preflight = Fetch(port(), "OPTIONS", "/v1/completions", "", origin);
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("allow"), "POST, OPTIONS");
  EXPECT_FALSE(preflight.headers.contains("access-control-allow-origin"));
}

TEST_F(HttpApiTest, CorsAnswersAllowedOrigins) {
  options_.cors_origins = {"http://app.example"};
  const ClientResponse allowed =
      Fetch(port(), "OPTIONS", "/v1/completions", "", {"Origin: http://app.example"});
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.headers.at("access-control-allow-origin"), "http://app.example");
  EXPECT_THAT(allowed.headers.at("access-control-allow-headers"), HasSubstr("Authorization"));
  EXPECT_FALSE(Get("/health", {"Origin: http://evil.example"})
                   .headers.contains("access-control-allow-origin"));
}

TEST_F(HttpApiTest, AKeyIsAskedForEverywhereButHealth) {
  options_.api_keys = {"sesame"};
  for (const char* path : {"/v1/models", "/metrics", "/version", "/v1/cluster", "/unknown"}) {
    const ClientResponse refused = Get(path);
    EXPECT_EQ(refused.status, 401) << path;
    EXPECT_EQ(refused.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(Json::parse(refused.body)["error"]["code"], "invalid_api_key");
  }
  for (const char* path : {"/health", "/health/live", "/health/ready", "/health/progress", "/"}) {
    EXPECT_EQ(Get(path).status, 200) << path;
  }
  EXPECT_EQ(Post("/v1/completions", {{"prompt", "x"}}).status, 401);
  EXPECT_TRUE(service_.requests().empty());
  EXPECT_EQ(Get("/v1/models", {"Authorization: Bearer sesame"}).status, 200);
  EXPECT_EQ(Get("/v1/models", {"X-Api-Key: sesame"}).status, 200);
}

TEST_F(HttpApiTest, TheRequestIdComesBack) {
  EXPECT_EQ(Get("/health", {"X-Request-Id: mine-1"}).headers.at("x-request-id"), "mine-1");
  EXPECT_THAT(Get("/unknown").headers.at("x-request-id"), ::testing::StartsWith("req-"));
}

TEST_F(HttpApiTest, BodiesMustBeJson) {
  const auto code = [&](const std::string& body, const std::string& type) {
    HttpClient client(port());
    client.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + type +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    const ClientResponse response = client.ReadResponse();
    return std::to_string(response.status) + " " +
           Json::parse(response.body).value(Json::json_pointer("/error/code"), Json("none")).dump();
  };
  EXPECT_EQ(code("{", ""), "400 \"invalid_json\"");
  EXPECT_EQ(code("{\"prompt\":\"\xff\"}", ""), "400 \"invalid_json\"");
  EXPECT_EQ(code("", ""), "400 \"invalid_json\"");
  EXPECT_EQ(code("{}", "Content-Type: multipart/form-data\r\n"), "415 \"unsupported_media_type\"");
  const std::string good = R"({"prompt":"x"})";
  EXPECT_EQ(code(good, "Content-Type: application/json; charset=utf-8\r\n"), "200 \"none\"");
  EXPECT_EQ(code(good, "Content-Type: application/x-www-form-urlencoded\r\n"), "200 \"none\"");
}

TEST_F(HttpApiTest, APortInUseIsOneReadableLine) {
  HttpOptions second = options_;
  second.port = port();
  const auto started =
      HttpServer::Start(second, {}, {service_, tokenizer_, &*template_, clock_, metrics_});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(started.status().message(), "cannot listen on 127.0.0.1:" + std::to_string(port()) +
                                            ": address already in use; choose another with --port");
}

TEST_F(HttpApiTest, AnAddressThatIsNotOursIsRefused) {
  options_.address = "203.0.113.7";  // TEST-NET-3, RFC 5737
  const auto started =
      HttpServer::Start(options_, {}, {service_, tokenizer_, &*template_, clock_, metrics_});
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.status().message(), HasSubstr("cannot listen on 203.0.113.7:0: "));
}

}  // namespace
}  // namespace thermocline::coordinator::http
