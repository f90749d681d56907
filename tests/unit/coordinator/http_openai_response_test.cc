#include <gtest/gtest.h>

#include <cmath>

#include "coordinator/http/api_error.h"
#include "coordinator/http/openai_response.h"
#include "coordinator/http/wire.h"

namespace thermocline::coordinator::http {
namespace {

const ResponseHead kChatHead{ResponseKind::kChat, "chatcmpl-1", 7, "tiny"};
const ResponseHead kTextHead{ResponseKind::kCompletion, "cmpl-1", 7, "tiny"};

TEST(OpenAiResponseTest, WholeChat) {
  const ChoicePiece choice{.index = 0, .text = "Hi", .finish_reason = "stop"};
  const Timings timings{
      .prompt_n = 2, .predicted_n = 4, .cache_n = 1, .prompt_ms = 10, .predicted_ms = 20};
  EXPECT_EQ(ResponseBody(kChatHead, {choice}, {}, {3, 4, 1}, timings),
            R"({"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"tiny",)"
            R"("system_fingerprint":"thermocline-0.1","choices":[{"index":0,)"
            R"("message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,)"
            R"("finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,)"
            R"("total_tokens":7,"prompt_tokens_details":{"cached_tokens":1}},)"
            R"("timings":{"cache_n":1,"prompt_n":2,"prompt_ms":10.0,"prompt_per_second":200.0,)"
            R"("predicted_n":4,"predicted_ms":20.0,"predicted_per_second":200.0}})");
}

TEST(OpenAiResponseTest, ChatChunks) {
  const std::string head =
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"tiny",)"
      R"("system_fingerprint":"thermocline-0.1",)";
  EXPECT_EQ(RoleChunk(kChatHead, 1, {}),
            head + R"("choices":[{"index":1,"delta":{"role":"assistant","content":""},)"
                   R"("logprobs":null,"finish_reason":null}]})");
  EXPECT_EQ(TextChunk(kChatHead, {.text = "a\"b"}, {}, {.present = true}),
            head + R"("choices":[{"index":0,"delta":{"content":"a\"b"},"logprobs":null,)"
                   R"("finish_reason":null}],"usage":null})");
  EXPECT_EQ(FinishChunk(kChatHead, {.finish_reason = "length"}, {}, {}),
            head + R"("choices":[{"index":0,"delta":{},"logprobs":null,)"
                   R"("finish_reason":"length"}]})");
  EXPECT_EQ(UsageChunk(kChatHead, {1, 2, 0}),
            head + R"("choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,)"
                   R"("total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST(OpenAiResponseTest, TextChunksAlwaysCarryText) {
  const std::string head =
      R"({"id":"cmpl-1","object":"text_completion","created":7,"model":"tiny",)"
      R"("system_fingerprint":"thermocline-0.1",)";
  EXPECT_EQ(FinishChunk(kTextHead, {.finish_reason = "stop"}, {}, {}),
            head + R"("choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]})");
}

TEST(OpenAiResponseTest, ChatLogprobsTellTheBytesOfHalfCharacters) {
  const TokenEntry token{.id = 5, .bytes = "\xc3", .logprob = -0.5f, .top = {{"a", -2.0f}}};
  const std::string chunk = TextChunk(kChatHead, {.text = "", .tokens = {token}},
                                      {.logprobs = true, .token_ids = true}, {});
  EXPECT_NE(chunk.find("\"logprobs\":{\"content\":[{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,"
                       "\"bytes\":[195],\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-2.0,"
                       "\"bytes\":[97]}]}]}"),
            std::string::npos)
      << chunk;
  EXPECT_NE(chunk.find("\"token_ids\":[5]"), std::string::npos);
}

TEST(OpenAiResponseTest, LegacyLogprobsHaveTheirOwnShape) {
  const std::vector<TokenEntry> tokens = {
      {.bytes = "a"}, {.bytes = "b", .logprob = -1.0f, .top = {{"c", -0.5f}}, .text_offset = 1}};
  const std::string chunk =
      TextChunk(kTextHead, {.text = "ab", .tokens = tokens}, {.logprobs = true}, {});
  EXPECT_NE(chunk.find(R"("logprobs":{"text_offset":[0,1],"token_logprobs":[null,-1.0],)"
                       R"("tokens":["a","b"],"top_logprobs":[null,{"c":-0.5,"b":-1.0}]})"),
            std::string::npos)
      << chunk;
}

TEST(OpenAiResponseTest, ImpossibleTokensStayValidJson) {
  const TokenEntry token{.bytes = "a", .logprob = -INFINITY};
  const std::string chunk = TextChunk(kChatHead, {.tokens = {token}}, {.logprobs = true}, {});
  EXPECT_NE(chunk.find("\"logprob\":-9999.0"), std::string::npos) << chunk;
}

TEST(ApiErrorTest, StatusCodesMapToHttp) {
  const auto line = [](const Status& status) {
    const ApiError e = FromStatus(status);
    return std::to_string(e.status) + " " + e.type + " " + e.code + " " +
           std::to_string(e.retry_after_s);
  };
  EXPECT_EQ(line(InvalidArgument("x")), "400 invalid_request_error  0");
  EXPECT_EQ(line(NotFound("x")), "404 not_found_error  0");
  EXPECT_EQ(line(ResourceExhausted("x")), "429 rate_limit_error queue_full 1");
  EXPECT_EQ(line(Unavailable("x")), "503 unavailable_error degraded 5");
  EXPECT_EQ(line(DeadlineExceeded("x")), "504 server_error deadline_exceeded 0");
  EXPECT_EQ(line(Internal("x")), "500 server_error internal 0");
  EXPECT_EQ(line(DataLoss("x")), "500 server_error internal 0");
}

TEST(ApiErrorTest, InternalCausesStayInside) {
  EXPECT_EQ(FromStatus(Internal("/home/model.gguf")).message.find("/home"), std::string::npos);
  EXPECT_EQ(FromStatus(Unavailable("worker node3 lost")).message.find("node3"), std::string::npos);
}

TEST(ApiErrorTest, TheObjectHasFourMembers) {
  EXPECT_EQ(ErrorJson(BadParameter("n", "bad", "x")),
            R"({"error":{"message":"bad","type":"invalid_request_error","param":"n","code":"x"}})");
  EXPECT_EQ(
      ErrorJson({.message = "bad"}),
      R"({"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}})");
}

TEST(WireTest, ChunksAreHexadecimal) {
  EXPECT_EQ(ChunkText(std::string(26, 'x')), "1a\r\n" + std::string(26, 'x') + "\r\n");
}

}  // namespace
}  // namespace thermocline::coordinator::http
