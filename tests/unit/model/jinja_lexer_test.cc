#include <gtest/gtest.h>

#include <string>

#include "model/jinja/lexer.h"

namespace thermocline::model::jinja {
namespace {

// The text tokens, each between brackets; tags as "|".
std::string Texts(std::string_view source) {
  const auto tokens = Tokenize(source);
  EXPECT_TRUE(tokens.ok()) << tokens.status();
  std::string out;
  for (const Token& token : *tokens) {
    if (token.kind == TokenKind::kText) out += "[" + token.text + "]";
    if (token.kind == TokenKind::kBlockBegin || token.kind == TokenKind::kVariableBegin) out += "|";
  }
  return out;
}

TEST(JinjaLexer, BlockTagsTakeTheirLineWithThem) {
  EXPECT_EQ(Texts("a\n  {% x %}\n  b"), "[a\n]|[  b]");
  EXPECT_EQ(Texts("a\n  {{ x }}\n  b"), "[a\n  ]|[\n  b]");
  EXPECT_EQ(Texts("a  {% x %}  b"), "[a  ]|[  b]");
}

TEST(JinjaLexer, MarkersStripOrKeepWhiteSpace) {
  EXPECT_EQ(Texts("a \n {%- x -%} \n b"), "[a]|[b]");
  EXPECT_EQ(Texts("a \n {{- x -}} \n b"), "[a]|[b]");
  EXPECT_EQ(Texts("a\n {%+ x +%}\nb"), "[a\n ]|[\nb]");
  EXPECT_EQ(Texts("a \n {#- x -#} \n b"), "[a][b]");
}

TEST(JinjaLexer, CountsLinesThroughEverything) {
  const auto tokens = Tokenize("\n{# \n #}{% raw %}\n{% endraw %}{{ '\n' }}\r\n{{ x }}");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ((*tokens)[tokens->size() - 2].line, 6);
}

TEST(JinjaLexer, ClosingInsideBracketsIsNoClosing) {
  const auto tokens = Tokenize("{{ {'a': {}} }}");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->size(), 9u);
}

}  // namespace
}  // namespace thermocline::model::jinja
