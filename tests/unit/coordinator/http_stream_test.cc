// Event streams, byte for byte, and what happens when a client leaves.
#include <set>
#include <sstream>
#include <thread>

#include "tests/unit/coordinator/http_fixture.h"

namespace thermocline::coordinator::http {
namespace {

class HttpStreamTest : public HttpFixture {
 protected:
  // Sends the request and reads up to the body.
  ClientResponse Open(HttpClient& client, std::string_view path, Json body) {
    body["stream"] = true;
    client.SendRequest("POST", path, body.dump());
    return client.ReadResponse(/*has_body=*/false);
  }
  // The whole stream with the constant members cut to one word.
  std::string Stream(std::string_view path, Json body) {
    body["stream"] = true;
    const ClientResponse response = Post(path, body);
    EXPECT_EQ(response.status, 200) << response.body;
    return Cut(response.body);
  }
  static std::string Cut(std::string text) {
    for (size_t at = text.find("\"id\""); at != std::string::npos; at = text.find("\"id\"", at)) {
      const size_t end = text.find("\"choices\"", at);
      text.erase(at, end - at);
    }
    // Times differ from run to run.
    if (const size_t at = text.find(",\"timings\":"); at != std::string::npos) {
      text.erase(at, text.find('}', at) + 1 - at);
    }
    return text;
  }
};

TEST_F(HttpStreamTest, ChatByteForByte) {
  service_.SetReplyText("Hi");
  HttpClient client(port());
  const ClientResponse head = Open(client, "/v1/chat/completions", Chat("x"));
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(head.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(head.headers.at("x-accel-buffering"), "no");
  EXPECT_EQ(head.headers.at("transfer-encoding"), "chunked");
  std::string body;
  for (std::string chunk = client.ReadChunk(); !chunk.empty(); chunk = client.ReadChunk()) {
    EXPECT_TRUE(chunk.starts_with("data: ") && chunk.ends_with("\n\n")) << chunk;
    body += chunk;
  }
  const std::string tail = R"(,"logprobs":null,"finish_reason":null}]})"
                           "\n\n";
  EXPECT_EQ(
      Cut(body),
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}" +
          tail + "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"H\"}" + tail +
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"i\"}" + tail +
          "data: {\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
          "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
}

TEST_F(HttpStreamTest, TheHeadOfAllChunksIsTheSame) {
  const ClientResponse response = Post("/v1/chat/completions", With(Chat("x"), {{"stream", true}}));
  std::istringstream lines(response.body);
  std::string line;
  std::set<std::string> heads;
  while (std::getline(lines, line)) {
    if (line.starts_with("data: {")) heads.insert(line.substr(0, line.find("\"choices\"")));
  }
  ASSERT_EQ(heads.size(), 1u);
  EXPECT_TRUE(heads.begin()->starts_with("data: {\"id\":\"chatcmpl-"));
}

TEST_F(HttpStreamTest, CompletionByteForByteWithUsage) {
  service_.SetReplyText("Hi");
  EXPECT_EQ(
      Stream("/v1/completions", {{"prompt", "abc"}, {"stream_options", {{"include_usage", true}}}}),
      "data: {\"choices\":[{\"index\":0,\"text\":\"H\",\"logprobs\":null,"
      "\"finish_reason\":null}],\"usage\":null}\n\n"
      "data: {\"choices\":[{\"index\":0,\"text\":\"i\",\"logprobs\":null,"
      "\"finish_reason\":null}],\"usage\":null}\n\n"
      "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,"
      "\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":3,"
      "\"total_tokens\":6,\"prompt_tokens_details\":{\"cached_tokens\":0}}}\n\n"
      "data: [DONE]\n\n");
}

TEST_F(HttpStreamTest, ContinuousUsageCountsUp) {
  service_.SetReplyText("Hi");
  const std::string stream =
      Stream("/v1/completions", {{"prompt", "abc"},
                                 {"max_tokens", 2},
                                 {"stream_options", {{"continuous_usage_stats", true}}}});
  EXPECT_NE(stream.find("\"text\":\"H\",\"logprobs\":null,\"finish_reason\":null}],"
                        "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,"),
            std::string::npos)
      << stream;
}

TEST_F(HttpStreamTest, EchoComesFirst) {
  service_.SetReplyText("H");
  const std::string stream = Stream("/v1/completions", {{"prompt", "abc"}, {"echo", true}});
  EXPECT_TRUE(stream.starts_with("data: {\"choices\":[{\"index\":0,\"text\":\"abcH\"")) << stream;
}

TEST_F(HttpStreamTest, NeitherHalfCharactersNorStopStringsAreSent) {
  service_.SetReplyText("\u00e9aSTxSTOPz");
  const std::string stream = Stream("/v1/completions", {{"prompt", "x"}, {"stop", "STOP"}});
  std::vector<std::string> texts;
  for (size_t at = stream.find("\"text\":\""); at != std::string::npos;
       at = stream.find("\"text\":\"", at + 1)) {
    texts.push_back(stream.substr(at + 8, stream.find('"', at + 8) - at - 8));
  }
  EXPECT_EQ(texts, (std::vector<std::string>{"\u00e9", "a", "STx", ""}));
  EXPECT_NE(stream.find("\"finish_reason\":\"stop\""), std::string::npos);
}

TEST_F(HttpStreamTest, ChoicesInterleaveAndEachFinishes) {
  service_.SetReplyText("ab");
  const std::string stream = Stream("/v1/chat/completions", With(Chat("x"), {{"n", 2}}));
  for (const char* wanted :
       {"{\"index\":0,\"delta\":{\"role\":", "{\"index\":1,\"delta\":{\"role\":",
        "{\"index\":0,\"delta\":{\"content\":\"b\"}", "{\"index\":1,\"delta\":{\"content\":\"b\"}",
        "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}",
        "{\"index\":1,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}"}) {
    const size_t at = stream.find(wanted);
    ASSERT_NE(at, std::string::npos) << wanted;
    EXPECT_EQ(stream.find(wanted, at + 1), std::string::npos) << wanted;
  }
  EXPECT_TRUE(stream.ends_with("data: [DONE]\n\n"));
}

TEST_F(HttpStreamTest, ARefusalIsAPlainErrorNotAStream) {
  service_.RefuseNext({ResourceExhausted("full")});
  const ClientResponse response = Post("/v1/chat/completions", With(Chat("x"), {{"stream", true}}));
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
}

TEST_F(HttpStreamTest, AnErrorAfterTheHeadIsTheLastEvent) {
  service_.Hold();
  HttpClient client(port());
  Open(client, "/v1/completions", {{"prompt", "x"}});
  ASSERT_TRUE(service_.WaitForRequests(1));
  service_.Emit(0, {.token = model::SampledToken{.token = 'a'}});
  EXPECT_NE(client.ReadChunk().find("\"text\":\"a\""), std::string::npos);
  service_.Emit(0, {.finish = FinishReason::kError, .error = DeadlineExceeded("too slow")});
  EXPECT_EQ(client.ReadChunk(),
            "data: {\"error\":{\"message\":\"too slow\",\"type\":\"server_error\",\"param\":null,"
            "\"code\":\"deadline_exceeded\"}}\n\n");
  EXPECT_EQ(client.ReadChunk(), "");
}

TEST_F(HttpStreamTest, TokensAreSentOneByOne) {
  service_.Hold();
  HttpClient client(port());
  Open(client, "/v1/completions", {{"prompt", "x"}});
  ASSERT_TRUE(service_.WaitForRequests(1));
  for (const char c : std::string("abc")) {
    service_.Emit(0, {.token = model::SampledToken{.token = c}});
    EXPECT_NE(client.ReadChunk().find(std::string("\"text\":\"") + c + "\""), std::string::npos);
  }
}

TEST_F(HttpStreamTest, SilenceIsFilledWithComments) {
  options_.limits.keep_alive_interval = std::chrono::milliseconds(20);
  service_.Hold();
  HttpClient client(port());
  Open(client, "/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(client.ReadChunk(), ":\n\n");
  EXPECT_EQ(client.ReadChunk(), ":\n\n");
}

TEST_F(HttpStreamTest, Http10ClientsGetNoChunks) {
  service_.SetReplyText("H");
  HttpClient client(port());
  const std::string body = R"({"prompt":"x","stream":true})";
  client.Send("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  const std::string response = client.ReadToEnd();
  EXPECT_EQ(response.find("chunked"), std::string::npos);
  EXPECT_NE(response.find("\r\nConnection: close\r\n"), std::string::npos);
  EXPECT_NE(response.find("\r\n\r\ndata: {"), std::string::npos) << response;
  EXPECT_TRUE(response.ends_with("data: [DONE]\n\n"));
}

// A client may leave by closing or by dying, at any time; its sequences are cancelled at once.
TEST_F(HttpStreamTest, LeavingCancelsAStream) {
  service_.Hold();
  HttpClient client(port());
  Open(client, "/v1/completions", {{"prompt", "x"}, {"n", 2}});
  ASSERT_TRUE(service_.WaitForRequests(2));
  service_.Emit(0, {.token = model::SampledToken{.token = 'a'}});
  client.Close();
  EXPECT_TRUE(service_.WaitForCancelled(2));
}

TEST_F(HttpStreamTest, LeavingWhileQueuedCancels) {
  service_.Hold();
  for (const bool reset : {false, true}) {
    const size_t n_before = service_.cancelled().size();
    HttpClient client(port());
    client.SendRequest("POST", "/v1/completions", R"({"prompt":"x"})");
    ASSERT_TRUE(service_.WaitForRequests(n_before + 1));
    reset ? client.Reset() : client.Close();
    EXPECT_TRUE(service_.WaitForCancelled(n_before + 1));
  }
}

TEST_F(HttpStreamTest, EventsAfterLeavingAreIgnored) {
  service_.Hold();
  {
    HttpClient client(port());
    client.SendRequest("POST", "/v1/completions", R"({"prompt":"x"})");
    ASSERT_TRUE(service_.WaitForRequests(1));
  }
  ASSERT_TRUE(service_.WaitForCancelled(1));
  service_.Emit(0, {.token = model::SampledToken{.token = 'a'}});
  service_.Emit(0, {.finish = FinishReason::kCancelled});
  EXPECT_EQ(Get("/health").status, 200);
  server_.reset();
  service_.Emit(0, {.token = model::SampledToken{.token = 'b'}});
  EXPECT_EQ(service_.cancelled().size(), 1u);
}

TEST_F(HttpStreamTest, AStuckClientIsDropped) {
  options_.limits.max_unsent_bytes = 64 * 1024;
  service_.Hold();
  HttpClient client(port(), /*receive_buffer_bytes=*/4096);
  client.SendRequest("POST", "/v1/completions", R"({"prompt":"x","stream":true,"logprobs":20})");
  ASSERT_TRUE(service_.WaitForRequests(1));
  model::SampledToken token{.token = 'a'};
  for (int32_t id = 'b'; id < 'v'; ++id) token.top.push_back({id, -1});
  // Some 500 bytes each: 25 MB, more than the buffers of two sockets.
  for (int i = 0; i < 50'000 && service_.cancelled().empty(); ++i) {
    service_.Emit(0, {.token = token});
    if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(service_.WaitForCancelled(1));
}

TEST_F(HttpStreamTest, StopLetsAStreamEnd) {
  options_.limits.stop_timeout = std::chrono::hours(1);
  service_.Hold();
  HttpClient client(port());
  Open(client, "/v1/completions", {{"prompt", "x"}});
  ASSERT_TRUE(service_.WaitForRequests(1));
  std::thread stopper([this] { server_->Stop(); });
  service_.Emit(0, {.finish = FinishReason::kStop});
  EXPECT_NE(client.ReadToEnd().find("data: [DONE]"), std::string::npos);
  stopper.join();
  EXPECT_TRUE(service_.cancelled().empty());
}

TEST_F(HttpStreamTest, StopCancelsWhatDoesNotEnd) {
  service_.Hold();
  HttpClient client(port());
  Open(client, "/v1/completions", {{"prompt", "x"}});
  ASSERT_TRUE(service_.WaitForRequests(1));
  server_->Stop();
  EXPECT_EQ(service_.cancelled().size(), 1u);
}

}  // namespace
}  // namespace thermocline::coordinator::http
