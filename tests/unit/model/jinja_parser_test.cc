#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/jinja/parser.h"

namespace thermocline::model::jinja {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string ParseError(const std::string& source) {
  const auto block = Parse(source, 64);
  EXPECT_FALSE(block.ok()) << source;
  EXPECT_EQ(block.status().code(), StatusCode::kInvalidArgument) << source;
  return block.status().message();
}

TEST(JinjaParser, UnsupportedStatementsAreNamedWithTheirLine) {
  for (const std::string word :
       {"include", "import", "from", "extends", "block", "call", "do", "autoescape", "trans"}) {
    EXPECT_THAT(ParseError("a\nb\n{% " + word + " 'x' %}"),
                AllOf(HasSubstr("statement not supported: " + word), HasSubstr("line=3")));
  }
  EXPECT_THAT(ParseError("{% for x in y recursive %}{% endfor %}"), HasSubstr("recursive for"));
  EXPECT_THAT(ParseError("{{ f(*args) }}"), HasSubstr("argument unpacking"));
}

TEST(JinjaParser, UnknownFiltersTestsFunctionsAndMethodsAreNamed) {
  EXPECT_THAT(ParseError("{{ x | frobnicate }}"), HasSubstr("filter not supported: frobnicate"));
  EXPECT_THAT(ParseError("{{ x is frobnicated }}"), HasSubstr("test not supported: frobnicated"));
  EXPECT_THAT(ParseError("{{ frobnicate(x) }}"), HasSubstr("function not supported: frobnicate"));
  EXPECT_THAT(ParseError("{{ x.frobnicate() }}"), HasSubstr("method not supported: frobnicate"));
  EXPECT_THAT(ParseError("{{ x | map('frob') }}"), HasSubstr("filter not supported: frob"));
  EXPECT_THAT(ParseError("{{ x | selectattr('a', 'frob') }}"),
              HasSubstr("test not supported: frob"));
  EXPECT_THAT(ParseError("{% filter frob %}{% endfilter %}"), HasSubstr("filter not supported"));
  EXPECT_THAT(ParseError("{% for x in y %}{{ loop(x) }}{% endfor %}"),
              HasSubstr("function not supported: loop"));
}

TEST(JinjaParser, CallsOfMacrosVariablesAndParametersAreAccepted) {
  for (const char* source :
       {"{{ later() }}{% macro later() %}{% endmacro %}", "{% set f = range %}{{ f(3) }}",
        "{% macro m(g) %}{{ g() }}{% endmacro %}", "{% for f in fs %}{{ f() }}{% endfor %}",
        "{% set ns = namespace(f=range) %}{{ ns.f(1) }}", "{% set ns.g = range %}{{ ns.g(1) }}"}) {
    const auto block = Parse(source, 64);
    EXPECT_TRUE(block.ok()) << source << "\n" << block.status();
  }
}

TEST(JinjaParser, SyntaxErrorsAreErrors) {
  for (const char* source : {"{{ }}",
                             "{{ 1 + }}",
                             "{{ (1 }}",
                             "{{ 1) }}",
                             "{{ [1, }}",
                             "{{ 'abc }}",
                             "{{ x",
                             "{% if x",
                             "{% if %}{% endif %}",
                             "{% if x %}",
                             "{% endif %}",
                             "{% else %}",
                             "{% for x y %}{% endfor %}",
                             "{% for in y %}{% endfor %}",
                             "{% set %}",
                             "{% set x = %}",
                             "{% set x %}",
                             "{% macro %}",
                             "{% macro m(a=1, b) %}{% endmacro %}",
                             "{% break %}",
                             "{# never closed",
                             "{% raw %} x",
                             "{{ x.  }}",
                             "{{ x[] }}",
                             "{{ {1} }}",
                             "{{ 'a' 1 }}",
                             "{{ '\\xZZ' }}",
                             "{{ '\\N{DASH}' }}",
                             "{{ ! }}",
                             "{{ x | }}",
                             "{{ x is }}",
                             "{{ f(a=1, 2) }}",
                             "{% filter %}{% endfilter %}",
                             "{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
                             "{%",
                             "{{",
                             "{#",
                             "{%-",
                             "{{-"}) {
    EXPECT_FALSE(ParseError(source).empty());
  }
}

}  // namespace
}  // namespace thermocline::model::jinja
