#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/str.h"
#include "coordinator/http/openai_request.h"

namespace thermocline::coordinator::http {
namespace {

using nlohmann::json;

constexpr int kVocab = 300;

CompletionRequest Completion(const json& body) {
  CompletionRequest request;
  const auto error = ParseCompletionRequest(body, kVocab, &request);
  EXPECT_FALSE(error) << error->message;
  return request;
}

ChatRequest Chat(const json& more) {
  json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  body.update(more);
  ChatRequest request;
  const auto error = ParseChatRequest(body, kVocab, &request);
  EXPECT_FALSE(error) << error->message;
  return request;
}

// "param: message" of the refusal of a completion with these members besides a prompt.
std::string Refused(const json& more) {
  json body = {{"prompt", "x"}};
  body.update(more);
  CompletionRequest request;
  const auto error = ParseCompletionRequest(body, kVocab, &request);
  if (!error) return "accepted";
  EXPECT_EQ(error->status, 400);
  return error->param + ": " + error->message;
}

std::string RefusedMessages(const json& messages) {
  ChatRequest request;
  const auto error = ParseChatRequest({{"messages", messages}}, kVocab, &request);
  return error ? error->param + ": " + error->message : "accepted";
}

TEST(OpenAiRequestTest, DefaultsAreThoseOfOpenAi) {
  const CompletionRequest request = Completion({{"prompt", "x"}});
  EXPECT_EQ(request.options.max_tokens, kDefaultCompletionTokens);
  EXPECT_EQ(request.options.n, 1);
  EXPECT_FALSE(request.options.stream);
  EXPECT_FALSE(request.options.seed);
  EXPECT_EQ(request.options.sampling, model::SamplingParams());
  EXPECT_EQ(Chat(json::object()).options.max_tokens, -1);
}

TEST(OpenAiRequestTest, ReadsEveryField) {
  const CompletionRequest request =
      Completion({{"prompt", "x"},
                  {"model", "m"},
                  {"stream", true},
                  {"n", 3},
                  {"seed", -5},
                  {"echo", true},
                  {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}},
                  {"max_tokens", 7},
                  {"min_tokens", 2},
                  {"stop", {"a", "b"}},
                  {"stop_token_ids", {4}},
                  {"temperature", 0.5},
                  {"top_p", 0.9},
                  {"top_k", 40},
                  {"min_p", 0.05},
                  {"ignore_eos", true},
                  {"presence_penalty", 1},
                  {"frequency_penalty", -2},
                  {"repetition_penalty", 1.1},
                  {"logprobs", 2},
                  {"logit_bias", {{"7", -100}, {"8", 1.5}}},
                  {"return_token_ids", true}});
  const GenerationOptions& options = request.options;
  EXPECT_EQ(options.model, "m");
  EXPECT_TRUE(options.stream && options.include_usage && options.continuous_usage_stats);
  EXPECT_TRUE(request.echo && options.ignore_eos && options.return_token_ids);
  EXPECT_EQ(options.n, 3);
  EXPECT_EQ(options.max_tokens, 7);
  EXPECT_EQ(options.min_tokens, 2);
  EXPECT_EQ(options.seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(options.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(options.stop_token_ids, (TokenIds{4}));
  const model::SamplingParams wanted{.temperature = 0.5f,
                                     .top_p = 0.9f,
                                     .top_k = 40,
                                     .min_p = 0.05f,
                                     .presence_penalty = 1,
                                     .frequency_penalty = -2,
                                     .repetition_penalty = 1.1f,
                                     .n_logprobs = 2,
                                     .n_prompt_logprobs = 2,
                                     .logit_bias = {{7, -100}, {8, 1.5f}}};
  EXPECT_EQ(options.sampling, wanted);
}

TEST(OpenAiRequestTest, PromptsComeInFourShapes) {
  EXPECT_EQ(Completion({{"prompt", "x"}}).prompts, (std::vector<Prompt>{"x"}));
  EXPECT_EQ(Completion({{"prompt", {"x", "y"}}}).prompts, (std::vector<Prompt>{"x", "y"}));
  EXPECT_EQ(Completion({{"prompt", {1, 2}}}).prompts, (std::vector<Prompt>{TokenIds{1, 2}}));
  EXPECT_EQ(Completion({{"prompt", {{1}, {2, 3}}}}).prompts,
            (std::vector<Prompt>{TokenIds{1}, TokenIds{2, 3}}));
}

TEST(OpenAiRequestTest, MaxCompletionTokensWins) {
  EXPECT_EQ(Chat({{"max_tokens", 5}, {"max_completion_tokens", 9}}).options.max_tokens, 9);
  EXPECT_EQ(Completion({{"prompt", "x"}, {"n_predict", -1}}).options.max_tokens, -1);
}

TEST(OpenAiRequestTest, LlamaServerSpellings) {
  const auto request = Completion({{"prompt", "x"},
                                   {"repeat_penalty", 1.5},
                                   {"seed", -1},
                                   {"logit_bias", {{5, false}, {6, 2}}}});
  EXPECT_FLOAT_EQ(request.options.sampling.repetition_penalty, 1.5f);
  EXPECT_FALSE(request.options.seed);
  EXPECT_EQ(request.options.sampling.logit_bias,
            (std::vector<std::pair<int32_t, float>>{{5, -100}, {6, 2}}));
}

TEST(OpenAiRequestTest, NullsUnknownFieldsAndNeutralValuesAreFine) {
  EXPECT_EQ(Refused({{"temperature", nullptr},
                     {"stop", nullptr},
                     {"seed", nullptr},
                     {"unknown_field", {1, 2}},
                     {"tools", json::array()},
                     {"best_of", 1},
                     {"response_format", {{"type", "text"}}},
                     {"suffix", nullptr},
                     {"tool_choice", "auto"},
                     {"top_p", 0},
                     {"max_tokens", 4.0}}),
            "accepted");
}

TEST(OpenAiRequestTest, RangesAreChecked) {
  EXPECT_EQ(Refused({{"temperature", -0.1}}),
            "temperature: temperature must be in [0, 100]: temperature=-0.1");
  EXPECT_EQ(Refused({{"top_p", 1.1}}), "top_p: top_p must be in [0, 1]: top_p=1.1");
  EXPECT_EQ(Refused({{"n", 0}}), "n: n must be in [1, 128]: n=0");
  EXPECT_EQ(Refused({{"n", 129}}), "n: n must be in [1, 128]: n=129");
  EXPECT_EQ(Refused({{"logprobs", 21}}), "logprobs: logprobs must be in [0, 20]: logprobs=21");
  EXPECT_EQ(Refused({{"max_tokens", -2}}).substr(0, 11), "max_tokens:");
  EXPECT_EQ(Refused({{"presence_penalty", 2.5}}).substr(0, 17), "presence_penalty:");
  EXPECT_EQ(Refused({{"min_tokens", 9}, {"max_tokens", 4}}),
            "min_tokens: min_tokens is above max_tokens: min_tokens=9 max_tokens=4");
}

TEST(OpenAiRequestTest, TypesAreChecked) {
  EXPECT_EQ(Refused({{"stream", "yes"}}), "stream: stream must be a boolean, not string");
  EXPECT_EQ(Refused({{"n", 1.5}}), "n: n must be an integer of 64 bits, not number");
  EXPECT_EQ(Refused({{"seed", 18446744073709551615ull}}),
            "seed: seed must be an integer of 64 bits, not number");
  EXPECT_EQ(Refused({{"prompt", 5}}),
            "prompt: prompt must be a string, token ids, or an array of either");
  EXPECT_EQ(Refused({{"prompt", nullptr}}), "prompt: prompt is missing");
  EXPECT_EQ(Refused({{"stream_options", {{"include_usage", 1}}}}),
            "stream_options.include_usage: include_usage must be a boolean, not number");
}

TEST(OpenAiRequestTest, TokenIdsMustBeInTheVocabulary) {
  EXPECT_EQ(Refused({{"prompt", {1, 300}}}),
            "prompt: prompt must hold token ids in [0, 300): value=300");
  EXPECT_EQ(Refused({{"prompt", {1, -1}}}),
            "prompt: prompt must hold token ids in [0, 300): value=-1");
  EXPECT_EQ(Refused({{"stop_token_ids", {300}}}),
            "stop_token_ids: stop_token_ids must hold token ids in [0, 300): value=300");
  EXPECT_EQ(Refused({{"logit_bias", {{"x", 1}}}}),
            "logit_bias: logit_bias must hold token ids in [0, 300): value=\\\"x\\\"");
}

TEST(OpenAiRequestTest, CountsAreLimited) {
  EXPECT_EQ(Refused({{"stop", json(std::vector<std::string>(17, "a"))}}),
            "stop: too many stop strings: count=17 max=16");
  EXPECT_EQ(Refused({{"stop", std::string(257, 'a')}}),
            "stop: stop string too long: bytes=257 max=256");
  EXPECT_EQ(Refused({{"prompt", json(std::vector<std::string>(257, "a"))}}),
            "prompt: too many prompts: count=257 max=256");
  EXPECT_EQ(Refused({{"prompt", {"a", "b", "c"}}, {"n", 100}}),
            "n: too many sequences, prompts times n: count=300 max=256");
  json bias = json::array();
  for (int i = 0; i < 1025; ++i) bias.push_back({1, 1});
  EXPECT_EQ(Refused({{"logit_bias", bias}}),
            "logit_bias: too many entries in logit_bias: count=1025 max=1024");
  EXPECT_EQ(RefusedMessages(json(std::vector<json>(4097, {{"role", "user"}, {"content", ""}}))),
            "messages: too many messages: count=4097 max=4096");
}

TEST(OpenAiRequestTest, UnsupportedFeaturesAreRefusedByName) {
  const json features = {{"tools", {json::object({{"type", "function"}})}},
                         {"response_format", {{"type", "json_object"}}},
                         {"suffix", "end"},
                         {"best_of", 2},
                         {"grammar", "root"},
                         {"use_beam_search", true},
                         {"tool_choice", "required"},
                         {"continue_final_message", true},
                         {"chat_template", "x"}};
  for (const auto& [name, value] : features.items()) {
    CompletionRequest request;
    const auto error = ParseCompletionRequest({{"prompt", "x"}, {name, value}}, kVocab, &request);
    ASSERT_TRUE(error) << name;
    EXPECT_EQ(error->param, name);
    EXPECT_EQ(error->code, "unsupported_parameter");
  }
}

TEST(OpenAiRequestTest, ReadsMessages) {
  ChatRequest request =
      Chat({{"messages",
             {{{"role", "developer"}, {"content", "be brief"}},
              {{"role", "user"},
               {"content", {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}}},
               {"name", "ann"}},
              {{"role", "assistant"}, {"content", nullptr}}}},
            {"chat_template_kwargs", {{"think", false}}},
            {"logprobs", true},
            {"top_logprobs", 3}});
  ASSERT_EQ(request.messages.size(), 3u);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[1].content, "ab");
  EXPECT_EQ(request.messages[1].name, "ann");
  EXPECT_EQ(request.messages[2].content, "");
  EXPECT_EQ(request.template_kwargs_json, R"({"think":false})");
  EXPECT_EQ(request.options.sampling.n_logprobs, 3);
}

TEST(OpenAiRequestTest, RefusesBadMessages) {
  EXPECT_EQ(RefusedMessages(json::array()), "messages: messages must be a non-empty array");
  EXPECT_EQ(RefusedMessages({"x"}), "messages[0]: a message must be an object");
  EXPECT_EQ(RefusedMessages({{{"role", "king"}, {"content", ""}}}),
            "messages[0].role: role must be one of system, developer, user, assistant, tool");
  EXPECT_EQ(RefusedMessages({{{"role", "user"}}}), "messages[0].content: content is missing");
  EXPECT_EQ(RefusedMessages({{{"role", "user"}, {"content", {{{"type", "image_url"}}}}}}),
            "messages[0].content: only content parts of type text are supported");
  EXPECT_EQ(RefusedMessages({{{"role", "assistant"}, {"tool_calls", {1}}}}),
            "messages[0].tool_calls: tool calls are not supported");
}

TEST(OpenAiRequestTest, TopLogprobsNeedLogprobs) {
  ChatRequest request;
  const auto error =
      ParseChatRequest({{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"top_logprobs", 2}},
                       kVocab, &request);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->param, "top_logprobs");
}

TEST(OpenAiRequest, FieldsThatNobodyKnowsAreNamed) {
  CompletionRequest completion;
  const auto body = nlohmann::json::parse(
      R"({"prompt":"a","max_tokens":4,"n_predict":5,"user":"me","tools":[],"min_tokns":2,"x":1})");
  ASSERT_FALSE(ParseCompletionRequest(body, 100, &completion).has_value());
  EXPECT_EQ(completion.options.unknown_fields, (std::vector<std::string>{"min_tokns", "x"}));
  ChatRequest chat;
  const auto talk = nlohmann::json::parse(
      R"({"messages":[{"role":"user","content":"a"}],"temperature":0,"logprobs":true,"echo":true})");
  ASSERT_FALSE(ParseChatRequest(talk, 100, &chat).has_value());
  EXPECT_EQ(chat.options.unknown_fields, (std::vector<std::string>{"echo"}));
  nlohmann::json many = body;
  for (int i = 0; i < 1000; ++i) many[Str("y", i)] = i;
  ASSERT_FALSE(ParseCompletionRequest(many, 100, &completion).has_value());
  EXPECT_EQ(completion.options.unknown_fields.size(), 8u);
}

}  // namespace
}  // namespace thermocline::coordinator::http
