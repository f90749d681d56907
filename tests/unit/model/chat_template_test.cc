#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace thermocline::model {
namespace {

using testing::HasSubstr;

ChatTemplateInput Conversation() {
  ChatTemplateInput input;
  input.messages = {{"system", "Be brief.", ""},
                    {"user", "Hi ", ""},
                    {"assistant", "Yes?", ""},
                    {"user", "Bye", ""}};
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  return input;
}

std::string RenderBuiltIn(std::string_view name, const ChatTemplateInput& input) {
  const auto source = ChatTemplate::BuiltIn(name);
  EXPECT_TRUE(source.ok()) << source.status();
  const auto parsed = ChatTemplate::Parse(*source);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  const auto rendered = parsed->Render(input);
  return rendered.ok() ? *rendered : rendered.status().ToString();
}

TEST(ChatTemplate, BuiltInsRenderAConversation) {
  EXPECT_EQ(RenderBuiltIn("chatml", Conversation()),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
            "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(RenderBuiltIn("llama2", Conversation()),
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yes? </s><s>[INST] Bye [/INST]");
  EXPECT_EQ(RenderBuiltIn("llama3", Conversation()),
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(RenderBuiltIn("zephyr", Conversation()),
            "<|system|>\nBe brief.</s>\n<|user|>\nHi </s>\n<|assistant|>\nYes?</s>\n"
            "<|user|>\nBye</s>\n<|assistant|>\n");
  EXPECT_EQ(RenderBuiltIn("gemma", Conversation()),
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
            "<start_of_turn>model\nYes?<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n"
            "<start_of_turn>model\n");
  EXPECT_EQ(RenderBuiltIn("mistral", Conversation()),
            "<s>[INST] Hi  [/INST] Yes?</s>[INST] Be brief.\n\nBye [/INST]");
}

TEST(ChatTemplate, BuiltInOfAnUnknownNameListsTheKnownOnes) {
  const auto source = ChatTemplate::BuiltIn("alpaca");
  EXPECT_EQ(source.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(source.status().message(), HasSubstr("chatml,gemma"));
}

TEST(ChatTemplate, RaiseExceptionIsTheCallersErrorWithItsMessage) {
  ChatTemplateInput input = Conversation();
  input.messages = {{"user", "a", ""}, {"user", "b", ""}};
  EXPECT_THAT(RenderBuiltIn("mistral", input),
              HasSubstr("turns must alternate between user and assistant"));
}

TEST(ChatTemplate, NamesArePassedOnlyWhereGiven) {
  const auto parsed = ChatTemplate::Parse(
      "{% for m in messages %}{{ m.name | default('-') }}{{ m.content }};{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  ChatTemplateInput input;
  input.messages = {{"user", "a", "ann"}, {"user", "b", ""}};
  EXPECT_EQ(*parsed->Render(input), "anna;-b;");
}

TEST(ChatTemplate, ArgumentsReplaceVariablesButNotTheMessages) {
  const auto parsed =
      ChatTemplate::Parse("{{ bos_token }}{{ x.y[0] }}{{ messages | length }}{{ tools }}");
  ASSERT_TRUE(parsed.ok());
  ChatTemplateInput input = Conversation();
  input.kwargs_json = R"({"bos_token": "B", "x": {"y": [1.5]}, "messages": []})";
  EXPECT_EQ(*parsed->Render(input), "B1.54None");
}

TEST(ChatTemplate, ArgumentsThatAreNoJsonObjectAreRefused) {
  const auto parsed = ChatTemplate::Parse("x");
  ASSERT_TRUE(parsed.ok());
  for (const char* json :
       {"[1]", "{", "{\"a\": 99999999999999999999999}x", "{\"a\": 9223372036854775808}"}) {
    ChatTemplateInput input;
    input.kwargs_json = json;
    EXPECT_EQ(parsed->Render(input).status().code(), StatusCode::kInvalidArgument) << json;
  }
  ChatTemplateInput deep;
  deep.kwargs_json = "{\"a\":" + std::string(100000, '[');
  EXPECT_THAT(parsed->Render(deep).status().message(), HasSubstr("nests too deeply"));
}

TEST(ChatTemplate, RendersFromManyThreadsAtOnce) {
  const auto parsed = ChatTemplate::Parse(*ChatTemplate::BuiltIn("llama3"));
  ASSERT_TRUE(parsed.ok());
  const std::string expected = *parsed->Render(Conversation());
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::string& result : results) {
    threads.emplace_back([&] { result = *parsed->Render(Conversation()); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace thermocline::model
