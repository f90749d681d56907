#include "model/jinja/expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "base/str.h"
#include "model/jinja/ast_height.h"
#include "model/jinja/filters.h"
#include "model/jinja/functions.h"
#include "model/jinja/methods.h"
#include "model/jinja/tests.h"

namespace thermocline::model::jinja {
namespace {

struct OperatorLevel {
  std::string_view symbol;
  BinaryOp op;
  int level;
};

constexpr std::array<OperatorLevel, 8> kOperators = {{
    {"+", BinaryOp::kAdd, 0},
    {"-", BinaryOp::kSub, 0},
    {"~", BinaryOp::kConcat, 1},
    {"*", BinaryOp::kMul, 2},
    {"/", BinaryOp::kDiv, 2},
    {"//", BinaryOp::kFloorDiv, 2},
    {"%", BinaryOp::kMod, 2},
    {"**", BinaryOp::kPow, 3},
}};
constexpr int kTightestLevel = 3;

const OperatorLevel* FindOperator(const Token& token, int level) {
  if (token.kind != TokenKind::kOperator) return nullptr;
  for (const OperatorLevel& entry : kOperators) {
    if (entry.level == level && entry.symbol == token.text) return &entry;
  }
  return nullptr;
}

// Whether a filter takes the name of another filter or test as its argument number `i`, so that a
// name which does not exist can be reported when the template is loaded.
const Builtin* ReferredBuiltin(std::string_view filter, size_t i, std::string_view name,
                               bool& refers) {
  const bool test_first = filter == "select" || filter == "reject";
  const bool test_second = filter == "selectattr" || filter == "rejectattr";
  refers = true;
  if ((test_first && i == 0) || (test_second && i == 1)) return FindTest(name);
  if (filter == "map" && i == 0) return FindFilter(name);
  refers = false;
  return nullptr;
}

}  // namespace

template <typename Node>
Result<ExprPtr> ExpressionParser::Make(int line, Node node) {
  auto expr = std::make_unique<Expr>();
  expr->line = line;
  expr->node = std::move(node);
  expr->height = 1 + TallestChild(*expr);
  if (expr->height > max_depth_) {
    return InvalidArgument(Str("template expression nests too deeply:", Kv("max_depth", max_depth_),
                               Kv("line", line)));
  }
  return expr;
}

Status ExpressionParser::Enter() {
  if (++depth_ <= max_depth_) return OkStatus();
  return tokens_.Error(Str("template nests too deeply:", Kv("max_depth", max_depth_)));
}

Status ExpressionParser::CheckCalls() const {
  for (const CalledName& call : called_) {
    const bool known = call.is_method
                           ? IsMethodName(call.name) || attributes_.contains(call.name)
                           : FindFunction(call.name) != nullptr || assigned_.contains(call.name);
    if (known) continue;
    return InvalidArgument(Str("template ", call.is_method ? "method" : "function",
                               " not supported: ", Printable(call.name), Kv("line", call.line)));
  }
  return OkStatus();
}

Result<ExprPtr> ExpressionParser::ParseExpression() {
  TC_RETURN_IF_ERROR(Enter());
  auto result = ParseConditional();
  Leave();
  return result;
}

Result<ExprPtr> ExpressionParser::ParseTuple(bool conditional) {
  const int line = tokens_.line();
  const auto parse_one = [&] { return conditional ? ParseExpression() : ParseLogic(false); };
  TC_ASSIGN_OR_RETURN(ExprPtr first, parse_one());
  if (!tokens_.IsOperator(",")) return first;
  SequenceLiteral tuple;
  tuple.is_tuple = true;
  tuple.items.push_back(std::move(first));
  while (tokens_.SkipOperator(",")) {
    const bool ends = tokens_.Is(TokenKind::kBlockEnd) || tokens_.Is(TokenKind::kVariableEnd) ||
                      tokens_.IsOperator(")");
    if (ends) break;
    TC_ASSIGN_OR_RETURN(ExprPtr item, parse_one());
    tuple.items.push_back(std::move(item));
  }
  return Make(line, std::move(tuple));
}

Result<ExprPtr> ExpressionParser::ParseConditional() {
  const int line = tokens_.line();
  TC_ASSIGN_OR_RETURN(ExprPtr value, ParseLogic(false));
  while (tokens_.SkipName("if")) {
    ConditionalExpr conditional;
    conditional.then = std::move(value);
    TC_ASSIGN_OR_RETURN(conditional.condition, ParseLogic(false));
    if (tokens_.SkipName("else")) {
      TC_ASSIGN_OR_RETURN(conditional.otherwise, ParseExpression());
    }
    TC_ASSIGN_OR_RETURN(value, Make(line, std::move(conditional)));
  }
  return value;
}

Result<ExprPtr> ExpressionParser::ParseLogic(bool is_and) {
  const int line = tokens_.line();
  const auto parse_one = [&] { return is_and ? ParseNot() : ParseLogic(true); };
  TC_ASSIGN_OR_RETURN(ExprPtr first, parse_one());
  const std::string_view word = is_and ? "and" : "or";
  if (!tokens_.IsName(word)) return first;
  LogicExpr logic;
  logic.is_and = is_and;
  logic.operands.push_back(std::move(first));
  while (tokens_.SkipName(word)) {
    TC_ASSIGN_OR_RETURN(ExprPtr operand, parse_one());
    logic.operands.push_back(std::move(operand));
  }
  return Make(line, std::move(logic));
}

Result<ExprPtr> ExpressionParser::ParseNot() {
  const int line = tokens_.line();
  if (!tokens_.SkipName("not")) return ParseComparison();
  TC_RETURN_IF_ERROR(Enter());
  TC_ASSIGN_OR_RETURN(ExprPtr operand, ParseNot());
  Leave();
  return Make(line, UnaryExpr{UnaryOp::kNot, std::move(operand)});
}

Result<bool> ExpressionParser::TakeCompareOp(CompareOp& op) {
  constexpr std::array<std::pair<std::string_view, CompareOp>, 6> kSymbols = {{
      {"==", CompareOp::kEq},
      {"!=", CompareOp::kNe},
      {"<", CompareOp::kLt},
      {"<=", CompareOp::kLe},
      {">", CompareOp::kGt},
      {">=", CompareOp::kGe},
  }};
  for (const auto& [symbol, symbol_op] : kSymbols) {
    if (!tokens_.SkipOperator(symbol)) continue;
    op = symbol_op;
    return true;
  }
  op = CompareOp::kIn;
  if (tokens_.SkipName("in")) return true;
  op = CompareOp::kNotIn;
  const Token& second = tokens_.PeekSecond();
  if (!tokens_.IsName("not") || second.kind != TokenKind::kName || second.text != "in")
    return false;
  tokens_.Next();
  tokens_.Next();
  return true;
}

Result<ExprPtr> ExpressionParser::ParseComparison() {
  const int line = tokens_.line();
  TC_ASSIGN_OR_RETURN(ExprPtr first, ParseArithmetic(0));
  CompareExpr comparison;
  while (true) {
    CompareOp op = CompareOp::kEq;
    TC_ASSIGN_OR_RETURN(const bool found, TakeCompareOp(op));
    if (!found) break;
    TC_ASSIGN_OR_RETURN(ExprPtr operand, ParseArithmetic(0));
    comparison.rest.emplace_back(op, std::move(operand));
  }
  if (comparison.rest.empty()) return first;
  comparison.first = std::move(first);
  return Make(line, std::move(comparison));
}

Result<ExprPtr> ExpressionParser::ParseArithmetic(int level) {
  const int line = tokens_.line();
  const auto parse_one = [&] {
    return level == kTightestLevel ? ParseUnary(true) : ParseArithmetic(level + 1);
  };
  TC_ASSIGN_OR_RETURN(ExprPtr first, parse_one());
  ArithmeticExpr chain;
  while (const OperatorLevel* const found = FindOperator(tokens_.Peek(), level)) {
    tokens_.Next();
    TC_ASSIGN_OR_RETURN(ExprPtr operand, parse_one());
    chain.rest.emplace_back(found->op, std::move(operand));
  }
  if (chain.rest.empty()) return first;
  chain.first = std::move(first);
  return Make(line, std::move(chain));
}

Result<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  const int line = tokens_.line();
  ExprPtr value;
  if (tokens_.IsOperator("-") || tokens_.IsOperator("+")) {
    const UnaryOp op = tokens_.Next().text == "-" ? UnaryOp::kNegate : UnaryOp::kPlus;
    TC_RETURN_IF_ERROR(Enter());
    TC_ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(false));
    Leave();
    TC_ASSIGN_OR_RETURN(value, Make(line, UnaryExpr{op, std::move(operand)}));
  } else {
    TC_ASSIGN_OR_RETURN(value, ParsePrimary());
  }
  TC_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
  if (!with_filters) return value;
  return ParseFiltersAndTests(std::move(value));
}

Result<ExprPtr> ExpressionParser::ParsePrimary() {
  switch (tokens_.Peek().kind) {
    case TokenKind::kName:
      return ParseName();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseNumber();
    case TokenKind::kString: {
      const int line = tokens_.line();
      std::string text = tokens_.Next().text;
      while (tokens_.Is(TokenKind::kString)) text += tokens_.Next().text;
      return Make(line, StringLiteral{std::move(text)});
    }
    default:
      break;
  }
  if (tokens_.IsOperator("(")) return ParseParenthesis();
  if (tokens_.IsOperator("[")) return ParseList();
  if (tokens_.IsOperator("{")) return ParseDict();
  return tokens_.Unexpected("an expression");
}

Result<ExprPtr> ExpressionParser::ParseName() {
  const int line = tokens_.line();
  std::string name = tokens_.Next().text;
  if (name == "true" || name == "True") return Make(line, Constant{Value::Bool(true)});
  if (name == "false" || name == "False") return Make(line, Constant{Value::Bool(false)});
  if (name == "none" || name == "None") return Make(line, Constant{Value::None()});
  return Make(line, NameRef{std::move(name)});
}

Result<ExprPtr> ExpressionParser::ParseNumber() {
  const Token token = tokens_.Next();
  if (token.kind == TokenKind::kFloat) {
    return Make(token.line, Constant{Value::Float(std::strtod(token.text.c_str(), nullptr))});
  }
  std::string_view digits = token.text;
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0' && digits[1] > '9') {
    base = digits[1] == 'x' ? 16 : (digits[1] == 'o' ? 8 : 2);
    digits.remove_prefix(2);
  }
  int64_t value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value, base);
  if (error != std::errc() || stop != end) {
    return InvalidArgument(
        Str("template integer out of range: ", Printable(token.text, 40), Kv("line", token.line)));
  }
  return Make(token.line, Constant{Value::Int(value)});
}

Result<ExprPtr> ExpressionParser::ParseParenthesis() {
  const int line = tokens_.line();
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
  if (tokens_.SkipOperator(")")) {
    SequenceLiteral empty;
    empty.is_tuple = true;
    return Make(line, std::move(empty));
  }
  TC_ASSIGN_OR_RETURN(ExprPtr value, ParseTuple(true));
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
  return value;
}

Result<ExprPtr> ExpressionParser::ParseList() {
  const int line = tokens_.line();
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("["));
  SequenceLiteral list;
  while (!tokens_.IsOperator("]")) {
    TC_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    list.items.push_back(std::move(item));
    if (!tokens_.SkipOperator(",")) break;
  }
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  return Make(line, std::move(list));
}

Result<ExprPtr> ExpressionParser::ParseDict() {
  const int line = tokens_.line();
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("{"));
  DictLiteral dict;
  while (!tokens_.IsOperator("}")) {
    TC_ASSIGN_OR_RETURN(ExprPtr key, ParseExpression());
    TC_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    TC_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    dict.entries.emplace_back(std::move(key), std::move(value));
    if (!tokens_.SkipOperator(",")) break;
  }
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("}"));
  return Make(line, std::move(dict));
}

Result<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr object) {
  while (true) {
    if (tokens_.IsOperator(".")) {
      TC_ASSIGN_OR_RETURN(object, ParseDot(std::move(object)));
    } else if (tokens_.IsOperator("[")) {
      TC_ASSIGN_OR_RETURN(object, ParseBracket(std::move(object)));
    } else if (tokens_.IsOperator("(")) {
      TC_ASSIGN_OR_RETURN(object, ParseCall(std::move(object)));
    } else {
      return object;
    }
  }
}

Result<ExprPtr> ExpressionParser::ParseDot(ExprPtr object) {
  const int line = tokens_.line();
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("."));
  if (tokens_.Is(TokenKind::kInteger)) {
    TC_ASSIGN_OR_RETURN(ExprPtr index, ParseNumber());
    return Make(line, SubscriptExpr{std::move(object), std::move(index)});
  }
  TC_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
  return Make(line, AttributeExpr{std::move(object), std::move(name)});
}

Result<ExprPtr> ExpressionParser::ParseSliceBound() {
  const bool absent = tokens_.IsOperator(":") || tokens_.IsOperator("]");
  if (absent) return ExprPtr();
  return ParseExpression();
}

Result<ExprPtr> ExpressionParser::ParseBracket(ExprPtr object) {
  const int line = tokens_.line();
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("["));
  if (tokens_.IsOperator("]")) return tokens_.Unexpected("an index");
  TC_ASSIGN_OR_RETURN(ExprPtr first, ParseSliceBound());
  if (tokens_.SkipOperator("]")) {
    return Make(line, SubscriptExpr{std::move(object), std::move(first)});
  }
  SliceExpr slice;
  slice.object = std::move(object);
  slice.begin = std::move(first);
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
  TC_ASSIGN_OR_RETURN(slice.end, ParseSliceBound());
  if (tokens_.SkipOperator(":")) {
    TC_ASSIGN_OR_RETURN(slice.step, ParseSliceBound());
  }
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  return Make(line, std::move(slice));
}

Result<ExprPtr> ExpressionParser::ParseFiltersAndTests(ExprPtr input) {
  while (true) {
    const int line = tokens_.line();
    if (tokens_.SkipOperator("|")) {
      TC_ASSIGN_OR_RETURN(FilterUse use, ParseFilterUse());
      TC_ASSIGN_OR_RETURN(input, Make(line, FilterExpr{std::move(input), std::move(use)}));
    } else if (tokens_.SkipName("is")) {
      TC_ASSIGN_OR_RETURN(input, ParseTest(std::move(input)));
    } else if (tokens_.IsOperator("(")) {
      TC_ASSIGN_OR_RETURN(input, ParseCall(std::move(input)));
    } else {
      return input;
    }
  }
}

Result<std::string> ExpressionParser::ParseDottedName() {
  TC_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
  while (tokens_.SkipOperator(".")) {
    TC_ASSIGN_OR_RETURN(const std::string part, tokens_.ExpectName());
    name += "." + part;
  }
  return name;
}

Result<FilterUse> ExpressionParser::ParseFilterUse() {
  const int line = tokens_.line();
  FilterUse use;
  TC_ASSIGN_OR_RETURN(const std::string name, ParseDottedName());
  use.filter = FindFilter(name);
  if (use.filter == nullptr) {
    return InvalidArgument(
        Str("template filter not supported: ", Printable(name), Kv("line", line)));
  }
  if (!tokens_.IsOperator("(")) return use;
  TC_ASSIGN_OR_RETURN(use.arguments, ParseArguments());
  for (size_t i = 0; i < use.arguments.positional.size(); ++i) {
    const auto* const literal = std::get_if<StringLiteral>(&use.arguments.positional[i]->node);
    if (literal == nullptr) continue;
    bool refers = false;
    const Builtin* const found = ReferredBuiltin(name, i, literal->text, refers);
    if (refers && found == nullptr) {
      return InvalidArgument(Str("template ", name == "map" ? "filter" : "test",
                                 " not supported: ", Printable(literal->text), Kv("line", line)));
    }
  }
  return use;
}

Result<std::vector<FilterUse>> ExpressionParser::ParseFilters() {
  std::vector<FilterUse> filters;
  do {
    TC_ASSIGN_OR_RETURN(FilterUse use, ParseFilterUse());
    filters.push_back(std::move(use));
  } while (tokens_.SkipOperator("|"));
  return filters;
}

Result<ExprPtr> ExpressionParser::ParseTest(ExprPtr input) {
  const int line = tokens_.line();
  const bool negated = tokens_.SkipName("not");
  TC_ASSIGN_OR_RETURN(const std::string name, ParseDottedName());
  TestExpr test;
  test.input = std::move(input);
  test.test = FindTest(name);
  if (test.test == nullptr) {
    return InvalidArgument(Str("template test not supported: ", Printable(name), Kv("line", line)));
  }
  // `x is divisibleby 3` takes one operand without parentheses.
  const Token& next = tokens_.Peek();
  const bool is_word = next.kind == TokenKind::kName && next.text != "else" && next.text != "or" &&
                       next.text != "and" && next.text != "if" && next.text != "is";
  const bool is_literal = next.kind == TokenKind::kString || next.kind == TokenKind::kInteger ||
                          next.kind == TokenKind::kFloat || tokens_.IsOperator("[") ||
                          tokens_.IsOperator("{");
  if (tokens_.IsOperator("(")) {
    TC_ASSIGN_OR_RETURN(test.arguments, ParseArguments());
  } else if (is_word || is_literal) {
    TC_ASSIGN_OR_RETURN(ExprPtr operand, ParsePrimary());
    TC_ASSIGN_OR_RETURN(operand, ParsePostfix(std::move(operand)));
    test.arguments.positional.push_back(std::move(operand));
  }
  TC_ASSIGN_OR_RETURN(ExprPtr result, Make(line, std::move(test)));
  if (!negated) return result;
  return Make(line, UnaryExpr{UnaryOp::kNot, std::move(result)});
}

Result<ExprPtr> ExpressionParser::ParseCall(ExprPtr callee) {
  const int line = tokens_.line();
  if (const auto* const name = std::get_if<NameRef>(&callee->node)) {
    called_.push_back({name->name, line, false});
  }
  if (const auto* const attribute = std::get_if<AttributeExpr>(&callee->node)) {
    called_.push_back({attribute->name, line, true});
  }
  CallExpr call;
  call.callee = std::move(callee);
  TC_ASSIGN_OR_RETURN(call.arguments, ParseArguments());
  return Make(line, std::move(call));
}

Result<ArgumentList> ExpressionParser::ParseArguments() {
  ArgumentList arguments;
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
  while (!tokens_.IsOperator(")")) {
    if (tokens_.IsOperator("*") || tokens_.IsOperator("**")) {
      return tokens_.Error("template construct not supported: argument unpacking with *");
    }
    const Token& second = tokens_.PeekSecond();
    const bool is_named =
        tokens_.Is(TokenKind::kName) && second.kind == TokenKind::kOperator && second.text == "=";
    if (is_named) {
      std::string name = tokens_.Next().text;
      tokens_.Next();
      DeclareAttribute(name);  // namespace(f=some_macro) makes f callable
      TC_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      arguments.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!arguments.named.empty()) return tokens_.Unexpected("a named argument");
      TC_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      arguments.positional.push_back(std::move(value));
    }
    if (!tokens_.SkipOperator(",")) break;
  }
  TC_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
  return arguments;
}

}  // namespace thermocline::model::jinja
