// No template may take more time, memory or stack than its limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/chat_template.h"

namespace thermocline::model {
namespace {

using testing::HasSubstr;

std::string Repeat(const std::string& text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

Status RenderStatus(const std::string& source, const ChatTemplateLimits& limits = {}) {
  const auto parsed = ChatTemplate::Parse(source, limits);
  if (!parsed.ok()) return parsed.status();
  ChatTemplateInput input;
  input.messages = {{"user", "Hi", ""}};
  return parsed->Render(input).status();
}

// With budgets of a tenth of the usual ones, so that the test is quick.
void ExpectExhausted(const std::string& source) {
  const ChatTemplateLimits limits{.max_steps = 200'000, .max_heap_bytes = 8 << 20};
  const Status status = RenderStatus(source, limits);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << source << "\n" << status;
}

TEST(JinjaBudget, MemoryIsBounded) {
  ExpectExhausted("{{ 'a' * 1000000000000 }}");
  ExpectExhausted("{{ [1] * 1000000000000 }}");
  ExpectExhausted(
      "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
      "{% set ns.s = ns.s ~ ns.s %}{% endfor %}");
  ExpectExhausted(
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
      "{% set ns.l = ns.l + ns.l %}{% endfor %}");
  ExpectExhausted("{{ ('a' * 100000).replace('a', 'b' * 100000) }}");
  ExpectExhausted("{{ (['x' * 100000] * 10000) | join }}");
  ExpectExhausted("{{ 'a' | center(100000000000) }}");
  ExpectExhausted(
      "{% set x %}{% for i in range(1000) %}{{ 'a' * 100000 }}{% endfor %}{% endset %}");
}

TEST(JinjaBudget, SharedListsDoNotPrintWithoutEnd) {
  // 2^60 leaves in 60 small lists.
  const std::string grow =
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}";
  ExpectExhausted(grow + "{{ ns.l }}");
  ExpectExhausted(grow + "{{ ns.l | tojson }}");
  ExpectExhausted(grow + "{% set a = ns.l %}{{ [a, 1] == [a, 2] }}");
}

TEST(JinjaBudget, StepsAndOutputAreBounded) {
  const std::string forever = Repeat("{% for i in range(1000) %}", 4) + Repeat("{% endfor %}", 4);
  EXPECT_THAT(RenderStatus(forever, {.max_steps = 100'000}).message(), HasSubstr("too many steps"));
  const Status printed =
      RenderStatus("{% set x = 'a' * 1000000 %}{% for i in range(100) %}{{ x }}{% endfor %}");
  EXPECT_THAT(printed.message(), HasSubstr("printed too much"));
  ExpectExhausted("{{ range(1000000) | list }}");
  // Work on long texts counts too.
  ExpectExhausted("{% set x = 'a' * 1000000 %}{% for i in range(90000) %}{{ x in x }}{% endfor %}");
  ExpectExhausted("{% set x = 'a' * 1000000 %}{{ dict([(x, 1)] * 50000) | length }}");
  ExpectExhausted("{% set x = 'a' * 1000000 %}{{ x.rfind('b' + 'a' * 100000) }}");
}

TEST(JinjaBudget, RecursionIsBounded) {
  ExpectExhausted("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  ExpectExhausted("{% macro m(a=m()) %}{% endmacro %}{{ m() }}");
  ExpectExhausted(
      "{% set ns = namespace(l=[]) %}{% for i in range(10000) %}"
      "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}");
}

TEST(JinjaBudget, DeepSourceIsRefusedWhenParsed) {
  for (const auto& [open, close] : {std::pair{"(", ")"},
                                    {"[", "]"},
                                    {"-", ""},
                                    {"not ", ""},
                                    {"{1:", "}"},
                                    {"1 if 1 else ", ""},
                                    {"x[", "]"}}) {
    const std::string source = "{{ " + Repeat(open, 5000) + "1" + Repeat(close, 5000) + " }}";
    EXPECT_THAT(RenderStatus(source).message(), HasSubstr("nests too deeply")) << open;
  }
  EXPECT_THAT(RenderStatus("{{ x" + Repeat(".a", 5000) + " }}").message(),
              HasSubstr("nests too deeply"));
  EXPECT_THAT(RenderStatus("{{ x" + Repeat("|trim", 5000) + " }}").message(),
              HasSubstr("nests too deeply"));
  EXPECT_THAT(RenderStatus(Repeat("{% if 1 %}", 5000) + Repeat("{% endif %}", 5000)).message(),
              HasSubstr("nests too deeply"));
}

TEST(JinjaBudget, LongChainsAreNotDeep) {
  EXPECT_TRUE(RenderStatus("{{ 1" + Repeat(" + 1", 5000) + " }}").ok());
  EXPECT_TRUE(RenderStatus("{{ 'a'" + Repeat(" ~ 'b'", 5000) + " }}").ok());
  EXPECT_TRUE(RenderStatus("{{ 1" + Repeat(" and 1", 5000) + " }}").ok());
  EXPECT_TRUE(RenderStatus("{% if 0 %}" + Repeat("{% elif 0 %}", 5000) + "{% endif %}").ok());
}

TEST(JinjaBudget, LongSourceIsRefused) {
  EXPECT_THAT(RenderStatus(std::string(300 * 1024, 'x')).message(), HasSubstr("too long"));
}

TEST(JinjaBudget, AccumulatingALongPromptIsLinear) {
  // 4000 appends of 1 KiB each: 4 MiB of text, 8 GiB if each append copied all of it.
  const std::string source =
      "{% set ns = namespace(s='') %}{% set part = 'x' * 1024 %}"
      "{% for i in range(4000) %}{% set ns.s = ns.s ~ part ~ '\\n' %}{% endfor %}{{ ns.s | length "
      "}}";
  const auto parsed = ChatTemplate::Parse(source);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto rendered = parsed->Render({});
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_EQ(*rendered, "4100000");
}

TEST(JinjaBudget, IntegersThatDoNotFitAreErrors) {
  for (const char* expression :
       {"9223372036854775807 + 1", "-9223372036854775807 - 2", "9223372036854775807 * 2", "2 ** 63",
        "-(-9223372036854775807 - 1)", "(-9223372036854775807 - 1) // -1",
        "(-9223372036854775807 - 1) | abs", "1 // 0", "1 % 0", "1 / 0", "1.0 // 0", "0 ** -1",
        "9223372036854775808"}) {
    const Status status = RenderStatus(std::string("{{ ") + expression + " }}");
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << expression;
  }
  EXPECT_TRUE(RenderStatus("{{ (-9223372036854775807 - 1) % -1 }}").ok());
}

}  // namespace
}  // namespace thermocline::model
