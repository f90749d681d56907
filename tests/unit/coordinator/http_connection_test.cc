// The HTTP/1.1 side: framing, limits, timeouts, keep-alive.
#include <atomic>
#include <functional>
#include <thread>

#include "tests/support/patience.h"
#include "tests/support/reserved_port.h"
#include "tests/unit/coordinator/http_fixture.h"

namespace thermocline::coordinator::http {
namespace {

using std::chrono::milliseconds;
using testing::InGrowingTime;

class HttpConnectionTest : public HttpFixture {
 protected:
  // With a server whose timeouts, which `set` sets, are as short as the machine's pace allows: a
  // client that is stalled may come too late to what it asks for.
  bool WithTimeouts(const std::function<void(HttpLimits*, milliseconds)>& set,
                    const std::function<bool()>& attempt) {
    return InGrowingTime(milliseconds(50), [&](Duration time) {
      server_.reset();
      set(&options_.limits, std::chrono::duration_cast<milliseconds>(time));
      return attempt();
    });
  }
};

std::string CodeOf(const ClientResponse& response) {
  if (response.status == 0) return "no response";
  return std::to_string(response.status) + " " +
         Json::parse(response.body)["error"]["code"].get<std::string>();
}

TEST_F(HttpConnectionTest, KeepsTheConnection) {
  HttpClient client(port());
  for (int i = 0; i < 3; ++i) {
    client.SendRequest("GET", "/health");
    const ClientResponse response = client.ReadResponse();
    EXPECT_EQ(response.status, 200);
    EXPECT_FALSE(response.headers.contains("connection"));
  }
}

TEST_F(HttpConnectionTest, ClosesWhenAsked) {
  HttpClient client(port());
  client.SendRequest("GET", "/health", "", {"Connection: close"});
  const std::string response = client.ReadToEnd();
  EXPECT_NE(response.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(response.ends_with(R"({"status":"ok"})"));
}

TEST_F(HttpConnectionTest, Http10ClosesUnlessItAsksNotTo) {
  HttpClient once(port());
  once.Send("GET /health HTTP/1.0\r\n\r\n");
  EXPECT_NE(once.ReadToEnd().find("Connection: close\r\n"), std::string::npos);
  HttpClient kept(port());
  for (int i = 0; i < 2; ++i) {
    kept.Send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(kept.ReadResponse().headers.at("connection"), "keep-alive");
  }
}

TEST_F(HttpConnectionTest, PipelinedRequestsAreAnsweredInOrder) {
  HttpClient client(port());
  const std::string body = R"({"prompt":"x","max_tokens":5})";
  client.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body +
              "GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(Json::parse(client.ReadResponse().body)["choices"][0]["text"], "Hello");
  EXPECT_EQ(Json::parse(client.ReadResponse().body)["name"], "thermocline");
  EXPECT_EQ(Json::parse(client.ReadResponse().body)["status"], "ok");
}

TEST_F(HttpConnectionTest, ARequestMayArriveByteByByte) {
  HttpClient client(port());
  for (const char c : std::string("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")) {
    client.Send(std::string_view(&c, 1));
  }
  EXPECT_EQ(client.ReadResponse().status, 200);
}

TEST_F(HttpConnectionTest, BodiesMayBeChunked) {
  HttpClient client(port());
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "a\r\n{\"content\"\r\n6\r\n:\"Hi\"}\r\n0\r\n\r\n");
  EXPECT_EQ(Json::parse(client.ReadResponse().body)["tokens"], Json({72, 105}));
}

TEST_F(HttpConnectionTest, AnswersExpectContinue) {
  HttpClient client(port());
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(R"({"content":"Hi"})");
  EXPECT_EQ(client.ReadResponse().status, 200);
}

TEST_F(HttpConnectionTest, AQueryAndAnAbsoluteTargetAreFine) {
  EXPECT_EQ(Get("/health?x=/1").status, 200);
  EXPECT_EQ(Get("http://localhost/health").status, 200);
}

TEST_F(HttpConnectionTest, AClientMayShutDownItsSendingSide) {
  HttpClient client(port());
  client.SendRequest("GET", "/health");
  client.ShutdownSend();
  EXPECT_TRUE(client.ReadToEnd().ends_with(R"({"status":"ok"})"));
}

TEST_F(HttpConnectionTest, HeadersAreLimited) {
  options_.limits.max_header_bytes = 1024;
  HttpClient client(port());
  client.SendRequest("GET", "/health", "", {"X-Long: " + std::string(2000, 'x')});
  const ClientResponse response = client.ReadResponse();
  EXPECT_EQ(CodeOf(response), "431 headers_too_large");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_EQ(Get("/health", {"X-Long: " + std::string(500, 'x')}).status, 200);
}

TEST_F(HttpConnectionTest, BodiesAreLimitedBeforeTheyAreRead) {
  options_.limits.max_body_bytes = 100;
  HttpClient client(port());
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(CodeOf(client.ReadResponse()), "413 body_too_large");
  HttpClient chunked(port());
  chunked.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" +
               std::string(101, 'x') + "\r\n0\r\n\r\n");
  EXPECT_EQ(CodeOf(chunked.ReadResponse()), "413 body_too_large");
}

TEST_F(HttpConnectionTest, ALargeBodyWithinTheLimitIsRead) {
  const Json body =
      PostJson("/v1/completions", {{"prompt", std::string(1 << 20, 'x')}, {"max_tokens", 1}}, 400);
  EXPECT_EQ(body["error"]["message"],
            "prompt and max_tokens exceed the context: prompt=1048576 max_tokens=1 context=1024");
}

TEST_F(HttpConnectionTest, NonsenseGets400) {
  for (const char* text :
       {"nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/1.1\r\nA B: c\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"}) {
    HttpClient client(port());
    client.Send(text);
    EXPECT_EQ(CodeOf(client.ReadResponse()), "400 invalid_http") << text;
    EXPECT_EQ(client.ReadToEnd(), "");
  }
}

TEST_F(HttpConnectionTest, ConnectionsAreLimited) {
  options_.limits.max_connections = 2;
  HttpClient first(port()), second(port());
  for (HttpClient* client : {&first, &second}) {
    client->SendRequest("GET", "/health");
    EXPECT_EQ(client->ReadResponse().status, 200);
  }
  {
    HttpClient third(port());
    third.SendRequest("GET", "/health");
    const ClientResponse refused = third.ReadResponse();
    EXPECT_EQ(CodeOf(refused), "503 too_many_connections");
    EXPECT_EQ(refused.headers.at("retry-after"), "1");
  }
  first.SendRequest("GET", "/health");
  EXPECT_EQ(first.ReadResponse().status, 200);
}

TEST_F(HttpConnectionTest, SlowHeadersTimeOut) {
  const auto set = [](HttpLimits* limits, milliseconds time) { limits->header_timeout = time; };
  EXPECT_TRUE(WithTimeouts(set, [&] {
    HttpClient client(port());
    client.Send("GET /health HTTP/1.1\r\nX-Slow: ");
    const std::string code = CodeOf(client.ReadResponse());
    EXPECT_EQ(client.ReadToEnd(), "");
    return code == "408 request_timeout";
  }));
}

TEST_F(HttpConnectionTest, DrippingHeadersDoNotExtendTheTimeout) {
  const auto set = [](HttpLimits* limits, milliseconds time) { limits->header_timeout = time; };
  EXPECT_TRUE(WithTimeouts(set, [&] {
    HttpClient client(port());
    client.Send("GET /health HTTP/1.1\r\nX-Slow: ");
    std::atomic<bool> answered{false};
    std::thread dripper([&] {
      while (!answered) {
        client.Send("x");
        std::this_thread::sleep_for(milliseconds(10));
      }
    });
    const ClientResponse response = client.ReadResponse();
    answered = true;
    dripper.join();
    return CodeOf(response) == "408 request_timeout";
  }));
}

TEST_F(HttpConnectionTest, SlowBodiesTimeOut) {
  options_.limits.body_timeout = milliseconds(50);
  HttpClient client(port());
  client.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_EQ(CodeOf(client.ReadResponse()), "408 request_timeout");
}

TEST_F(HttpConnectionTest, IdleConnectionsAreClosedWithoutAWord) {
  const auto set = [](HttpLimits* limits, milliseconds time) {
    limits->idle_timeout = limits->header_timeout = time;
  };
  EXPECT_TRUE(WithTimeouts(set, [&] {
    HttpClient silent(port());
    EXPECT_EQ(silent.ReadToEnd(), "");
    HttpClient used(port());
    used.SendRequest("GET", "/health");
    const int status = used.ReadResponse().status;
    EXPECT_EQ(used.ReadToEnd(), "");
    return status == 200;
  }));
}

TEST_F(HttpConnectionTest, AWholeRequestDoesNotTimeOutWhileItIsAnswered) {
  service_.Hold();
  const auto set = [](HttpLimits* limits, milliseconds time) {
    limits->header_timeout = limits->body_timeout = time;
  };
  EXPECT_TRUE(WithTimeouts(set, [&] {
    const size_t n_before = service_.requests().size();
    HttpClient client(port());
    client.SendRequest("POST", "/v1/completions", R"({"prompt":"x"})");
    std::atomic<bool> refused{false};
    std::thread answerer([&] {
      while (service_.requests().size() == n_before && !refused) std::this_thread::yield();
      if (refused) return;
      // Longer than both timeouts; the wait is for a cancellation that must not come.
      std::this_thread::sleep_for(2 * options_.limits.header_timeout);
      EXPECT_TRUE(service_.cancelled().empty());
      service_.Emit(n_before, {.finish = FinishReason::kStop});
    });
    const int status = client.ReadResponse().status;
    refused = true;
    answerer.join();
    return status == 200;
  }));
}

TEST_F(HttpConnectionTest, StopClosesIdleConnectionsAndThePort) {
  const testing::ReservedPort reserved;
  options_.port = reserved.number();
  HttpClient client(port());
  client.SendRequest("GET", "/health");
  EXPECT_EQ(client.ReadResponse().status, 200);
  server_->Stop();
  EXPECT_EQ(client.ReadToEnd(), "");
  server_->Stop();
  server_.reset();
  EXPECT_EQ(Get("/health").status, 200);
}

}  // namespace
}  // namespace thermocline::coordinator::http
