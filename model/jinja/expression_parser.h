// Parses expressions. Part of the parser; see parser.h.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/jinja/ast.h"
#include "model/jinja/token_stream.h"

namespace thermocline::model::jinja {

// The parse functions mirror the levels of precedence, loosest first. Lives as long as one Parse;
// thread-compatible.
class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, int max_depth) : tokens_(tokens), max_depth_(max_depth) {}

  // `a if b else c` and everything tighter.
  Result<ExprPtr> ParseExpression();
  // One expression, or a tuple without parentheses: `a, b`. With `conditional` false an `if` ends
  // the expression, as after `for x in`.
  Result<ExprPtr> ParseTuple(bool conditional);
  // `name(arguments)|name...`, the first name included: what follows `{% filter`.
  Result<std::vector<FilterUse>> ParseFilters();

  // Counts a level of nesting; the statement parser uses it for blocks.
  Status Enter();
  void Leave() { --depth_; }

  // Checks that every called name is assigned somewhere in the template or a known function.
  Status CheckCalls() const;
  // The template assigns this variable somewhere.
  void DeclareName(std::string name) { assigned_.insert(std::move(name)); }
  // The template assigns this attribute of a namespace somewhere.
  void DeclareAttribute(std::string name) { attributes_.insert(std::move(name)); }

 private:
  struct CalledName {
    std::string name;
    int line;
    bool is_method;
  };

  template <typename Node>
  Result<ExprPtr> Make(int line, Node node);

  Result<ExprPtr> ParseConditional();
  Result<ExprPtr> ParseLogic(bool is_and);
  Result<ExprPtr> ParseNot();
  Result<ExprPtr> ParseComparison();
  Result<bool> TakeCompareOp(CompareOp& op);
  // Level 0: + and -; 1: ~; 2: * / // %; 3: **.
  Result<ExprPtr> ParseArithmetic(int level);
  Result<ExprPtr> ParseUnary(bool with_filters);
  Result<ExprPtr> ParsePrimary();
  Result<ExprPtr> ParseName();
  Result<ExprPtr> ParseNumber();
  Result<ExprPtr> ParseParenthesis();
  Result<ExprPtr> ParseList();
  Result<ExprPtr> ParseDict();
  Result<ExprPtr> ParsePostfix(ExprPtr object);
  Result<ExprPtr> ParseDot(ExprPtr object);
  Result<ExprPtr> ParseBracket(ExprPtr object);
  Result<ExprPtr> ParseSliceBound();
  Result<ExprPtr> ParseFiltersAndTests(ExprPtr input);
  Result<ExprPtr> ParseTest(ExprPtr input);
  Result<FilterUse> ParseFilterUse();
  Result<ExprPtr> ParseCall(ExprPtr callee);
  Result<ArgumentList> ParseArguments();
  Result<std::string> ParseDottedName();

  TokenStream& tokens_;
  const int max_depth_;
  int depth_ = 0;
  std::vector<CalledName> called_;
  std::set<std::string, std::less<>> assigned_;
  std::set<std::string, std::less<>> attributes_;
};

}  // namespace thermocline::model::jinja
