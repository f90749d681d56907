// Completions and chats that are answered whole.
#include "tests/unit/coordinator/http_fixture.h"

namespace thermocline::coordinator::http {
namespace {

using TokenIds = std::vector<int32_t>;
using HttpCompletionsTest = HttpFixture;

TEST_F(HttpCompletionsTest, AnswersACompletion) {
  const Json body = PostJson("/v1/completions", {{"prompt", "Say"}, {"max_tokens", 5}});
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["model"], "tiny");
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(body["choices"], Json::parse(R"([{"index":0,"text":"Hello","logprobs":null,
                                              "finish_reason":"length"}])"));
  EXPECT_EQ(body["usage"], Json::parse(R"({"prompt_tokens":3,"completion_tokens":5,
                         "total_tokens":8,"prompt_tokens_details":{"cached_tokens":0}})"));
  EXPECT_EQ(body["timings"]["predicted_n"], 5);
}

TEST_F(HttpCompletionsTest, AnswersAChat) {
  const Json body = PostJson("/v1/chat/completions", Chat("Hi"));
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Hello, world");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  const auto request = service_.requests().at(0);
  EXPECT_EQ(tokenizer_.Decode(request.prompt, true),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(request.max_tokens, -1);
  EXPECT_EQ(request.end_ids, (TokenIds{ByteTokenizer::kEos, ByteTokenizer::kImEnd}));
}

TEST_F(HttpCompletionsTest, TheTokenizerAddsABeginTokenOnce) {
  tokenizer_ = ByteTokenizer(/*add_bos=*/true);
  PostJson("/v1/completions", {{"prompt", "x"}});
  PostJson("/v1/completions", {{"prompt", ""}});
  PostJson("/v1/completions", {{"prompt", {'x'}}});
  PostJson("/v1/chat/completions", Chat("x"));
  const auto requests = service_.requests();
  EXPECT_EQ(requests[0].prompt, (TokenIds{ByteTokenizer::kBos, 'x'}));
  EXPECT_EQ(requests[1].prompt, (TokenIds{ByteTokenizer::kBos}));
  EXPECT_EQ(requests[2].prompt, (TokenIds{'x'}));
  EXPECT_EQ(requests[3].prompt[0], ByteTokenizer::kBos);
  EXPECT_EQ(requests[3].prompt[1], '<');
}

TEST_F(HttpCompletionsTest, ChoicesOfAPromptCountTheirSeedsUp) {
  const Json body = PostJson("/v1/completions",
                             {{"prompt", {"ab", "c"}}, {"n", 2}, {"seed", 40}, {"max_tokens", 1}});
  ASSERT_EQ(body["choices"].size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(body["choices"][i]["index"], i);
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
  std::vector<uint64_t> seeds;
  for (const auto& request : service_.requests()) seeds.push_back(request.sampling.seed);
  EXPECT_EQ(seeds, (std::vector<uint64_t>{40, 41, 40, 41}));
}

TEST_F(HttpCompletionsTest, WithoutASeedEachRequestDrawsOne) {
  PostJson("/v1/completions", {{"prompt", "x"}});
  PostJson("/v1/completions", {{"prompt", "x"}});
  const auto requests = service_.requests();
  EXPECT_NE(requests[0].sampling.seed, requests[1].sampling.seed);
}

TEST_F(HttpCompletionsTest, AStopStringEndsTheSequence) {
  const Json body = PostJson("/v1/completions", {{"prompt", "x"}, {"stop", "o, w"}});
  EXPECT_EQ(body["choices"][0]["text"], "Hell");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
}

TEST_F(HttpCompletionsTest, AStopStringCancelsWhatStillRuns) {
  service_.Hold();
  HttpClient client(port());
  client.SendRequest("POST", "/v1/completions", R"({"prompt":"x","stop":"b"})");
  ASSERT_TRUE(service_.WaitForRequests(1));
  for (const int32_t token : {'a', 'b'}) {
    service_.Emit(0, {.token = model::SampledToken{.token = token}});
  }
  EXPECT_EQ(Json::parse(client.ReadResponse().body)["choices"][0]["text"], "a");
  EXPECT_EQ(service_.cancelled(), (std::vector<SeqId>{SeqId{1}}));
}

TEST_F(HttpCompletionsTest, EndTokensAreNotText) {
  const Json body =
      PostJson("/v1/completions", {{"prompt", "x"}, {"stop_token_ids", {'!'}}, {"max_tokens", 99}});
  EXPECT_EQ(body["choices"][0]["text"], "Hello, world");
  EXPECT_EQ(service_.requests()[0].end_ids,
            (TokenIds{'!', ByteTokenizer::kEos, ByteTokenizer::kImEnd}));
}

TEST_F(HttpCompletionsTest, IgnoreEosMakesEndTokensOrdinaryOnes) {
  const Json body =
      PostJson("/v1/completions", {{"prompt", "x"}, {"ignore_eos", true}, {"max_tokens", 20}});
  EXPECT_EQ(body["choices"][0]["text"], "Hello, worldHello, w");
  EXPECT_TRUE(service_.requests()[0].end_ids.empty());
  EXPECT_TRUE(service_.requests()[0].sampling.banned_ids.empty());
}

TEST_F(HttpCompletionsTest, LegacyLogprobs) {
  const Json body =
      PostJson("/v1/completions", {{"prompt", "x"}, {"max_tokens", 2}, {"logprobs", 2}});
  EXPECT_EQ(body["choices"][0]["logprobs"],
            Json::parse(R"({"tokens":["H","e"],"token_logprobs":[-0.5,-0.5],"text_offset":[0,1],
                            "top_logprobs":[{"H":-0.5,"I":-1.5},{"e":-0.5,"f":-1.5}]})"));
}

TEST_F(HttpCompletionsTest, EchoWithLogprobsScoresThePrompt) {
  const Json body = PostJson(
      "/v1/completions", {{"prompt", "ab"}, {"max_tokens", 0}, {"logprobs", 1}, {"echo", true}});
  EXPECT_EQ(body["choices"][0]["text"], "ab");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["choices"][0]["logprobs"],
            Json::parse(R"({"tokens":["a","b"],"token_logprobs":[null,-0.5],"text_offset":[0,1],
                            "top_logprobs":[null,{"b":-0.5}]})"));
  EXPECT_EQ(body["usage"]["completion_tokens"], 0);
}

TEST_F(HttpCompletionsTest, EchoOfTokenIdsIsTheirText) {
  const Json body =
      PostJson("/v1/completions", {{"prompt", {72, 105}}, {"max_tokens", 1}, {"echo", true}});
  EXPECT_EQ(body["choices"][0]["text"], "HiH");
}

TEST_F(HttpCompletionsTest, ChatLogprobs) {
  const Json body = PostJson("/v1/chat/completions", With(Chat("x"), {{"max_tokens", 1},
                                                                      {"logprobs", true},
                                                                      {"top_logprobs", 1},
                                                                      {"return_token_ids", true}}));
  EXPECT_EQ(body["choices"][0]["logprobs"],
            Json::parse(R"({"content":[{"token":"H","logprob":-0.5,"bytes":[72],
                            "top_logprobs":[{"token":"H","logprob":-0.5,"bytes":[72]}]}]})"));
  EXPECT_EQ(body["choices"][0]["token_ids"], Json({72}));
}

TEST_F(HttpCompletionsTest, CharactersSplitOverTokensArriveWhole) {
  service_.SetReply({0xf0, 0x9f, 0x98, 0x80, 0xff, 'x'});
  const Json body = PostJson("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(body["choices"][0]["text"], "\U0001F600\uFFFDx");
}

TEST_F(HttpCompletionsTest, TheModelMustBeOurs) {
  EXPECT_EQ(PostJson("/v1/completions", {{"prompt", "x"}, {"model", "org/tiny"}})["model"],
            "org/tiny");
  const Json error =
      PostJson("/v1/chat/completions", With(Chat("x"), {{"model", "gpt-9"}}), 404)["error"];
  EXPECT_EQ(error["code"], "model_not_found");
  EXPECT_EQ(error["param"], "model");
  EXPECT_EQ(error["type"], "not_found_error");
}

TEST_F(HttpCompletionsTest, APromptThatCannotFitIsRefused) {
  const Json error = PostJson(
      "/v1/completions", {{"prompt", std::string(1000, 'x')}, {"max_tokens", 25}}, 400)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["message"],
            "prompt and max_tokens exceed the context: prompt=1000 max_tokens=25 context=1024");
  EXPECT_EQ(PostJson("/v1/completions", {{"prompt", Json::array()}}, 400)["error"]["message"],
            "the prompt is empty");
}

TEST_F(HttpCompletionsTest, AFullQueueIs429) {
  service_.RefuseNext({ResourceExhausted("the queue is full: limit=4")});
  const ClientResponse response = Post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_EQ(Json::parse(response.body)["error"]["code"], "queue_full");
}

TEST_F(HttpCompletionsTest, AllChoicesAreAcceptedOrNone) {
  service_.Hold();
  service_.RefuseNext({ResourceExhausted("full")});
  EXPECT_EQ(PostJson("/v1/completions", {{"prompt", "x"}, {"n", 3}}, 429)["error"]["code"],
            "queue_full");
  EXPECT_TRUE(service_.requests().empty());
  EXPECT_TRUE(service_.cancelled().empty());
}

TEST_F(HttpCompletionsTest, MoreChoicesThanAreEverTakenAreNotACaseOfContext) {
  service_.RefuseNext({InvalidArgument("too many sequences at once: n=3 limit=2")});
  const Json error = PostJson("/v1/completions", {{"prompt", "x"}, {"n", 3}}, 400)["error"];
  EXPECT_NE(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["message"], "too many sequences at once: n=3 limit=2");
}

TEST_F(HttpCompletionsTest, AnErrorOfASequenceFailsTheRequest) {
  service_.Hold();
  HttpClient client(port());
  client.SendRequest("POST", "/v1/completions", R"({"prompt":"x","n":2})");
  ASSERT_TRUE(service_.WaitForRequests(2));
  service_.Emit(0, {.token = model::SampledToken{.token = 'a'}});
  service_.Emit(1, {.finish = FinishReason::kError, .error = Internal("/secret/path")});
  const ClientResponse response = client.ReadResponse();
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body.find("secret"), std::string::npos);
  EXPECT_EQ(service_.cancelled(), (std::vector<SeqId>{SeqId{1}}));
}

}  // namespace
}  // namespace thermocline::coordinator::http
