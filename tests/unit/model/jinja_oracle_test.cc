// Byte equality with Jinja2. tests/data/chat_templates/make_expected.py made the expectations.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "model/chat_template.h"
#include "tests/support/test_paths.h"

namespace thermocline::model {
namespace {

const std::string kFolder = testing::TestDataPath("chat_templates/");
constexpr int64_t kNow = 1753444800;  // the instant that make_expected.py used

std::string ReadText(const std::string& name) {
  std::ifstream file(kFolder + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

nlohmann::ordered_json ReadJson(const std::string& name) {
  return nlohmann::ordered_json::parse(ReadText(name));
}

Result<std::string> RenderSource(const std::string& source, const ChatTemplateInput& input) {
  auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(input);
}

ChatTemplateInput BaseInput() {
  ChatTemplateInput input;
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now_unix_s = kNow;
  return input;
}

ChatTemplateInput InputOf(const nlohmann::ordered_json& conversation) {
  ChatTemplateInput input = BaseInput();
  for (const auto& message : conversation["messages"]) {
    input.messages.push_back({message["role"], message["content"], ""});
  }
  input.add_generation_prompt = conversation.value("add_generation_prompt", true);
  input.kwargs_json = conversation["kwargs"].dump();
  return input;
}

void ExpectSame(const nlohmann::ordered_json& expected, const Result<std::string>& rendered,
                const std::string& what) {
  if (expected.contains("error")) {
    EXPECT_FALSE(rendered.ok()) << what << "\nshould fail: " << expected["error"]
                                << "\nprinted: " << (rendered.ok() ? *rendered : "");
    EXPECT_EQ(rendered.status().code(), StatusCode::kInvalidArgument) << what;
    return;
  }
  ASSERT_TRUE(rendered.ok()) << what << "\n" << rendered.status();
  EXPECT_EQ(*rendered, expected["text"].get<std::string>()) << what;
}

class JinjaOracle : public ::testing::Test {
 protected:
  // strftime_now shows local time; the expectations are in UTC.
  void SetUp() override {
    setenv("TZ", "UTC", 1);
    tzset();
  }
};

TEST_F(JinjaOracle, SnippetsRenderAsJinja2DoesThem) {
  const auto snippets = ReadJson("expected_snippets.json");
  ASSERT_GE(snippets.size(), 120u);
  ChatTemplateInput input = BaseInput();
  input.messages = {{"user", "Hi", ""}};
  input.kwargs_json = ReadText("snippet_variables.json");
  for (const auto& snippet : snippets) {
    const std::string source = snippet["source"];
    ExpectSame(snippet, RenderSource(source, input), source);
  }
}

TEST_F(JinjaOracle, TemplatesRenderAsJinja2DoesThem) {
  const auto conversations = ReadJson("conversations.json");
  const auto templates = ReadJson("expected_templates.json");
  ASSERT_GE(templates.size(), 8u);
  ASSERT_GE(conversations.size(), 6u);
  for (const auto& [name, expected] : templates.items()) {
    const std::string source = ReadText(name);
    for (size_t i = 0; i < conversations.size(); ++i) {
      ExpectSame(expected[i], RenderSource(source, InputOf(conversations[i])),
                 name + " conversation " + std::to_string(i));
    }
  }
}

}  // namespace
}  // namespace thermocline::model
