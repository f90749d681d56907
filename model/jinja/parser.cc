#include "model/jinja/parser.h"

#include <initializer_list>
#include <utility>

#include "base/str.h"
#include "model/jinja/expression_parser.h"
#include "model/jinja/lexer.h"
#include "model/jinja/token_stream.h"

namespace thermocline::model::jinja {
namespace {

// Parses statements; expressions are ExpressionParser's. Lives for one Parse.
class StatementParser {
 public:
  StatementParser(std::vector<Token> tokens, int max_depth)
      : tokens_(std::move(tokens)), expressions_(tokens_, max_depth) {}

  Result<Block> Run() {
    TC_ASSIGN_OR_RETURN(Block block, ParseBlock({}));
    TC_RETURN_IF_ERROR(expressions_.CheckCalls());
    return block;
  }

 private:
  using Names = std::initializer_list<std::string_view>;

  // Statements up to a tag of one of those names, which is left to be read (behind its `{%`); with
  // no names, up to the end of the template.
  Result<Block> ParseBlock(Names ends) {
    TC_RETURN_IF_ERROR(expressions_.Enter());
    const int line = tokens_.line();
    Block block;
    while (!tokens_.Is(TokenKind::kEnd)) {
      if (tokens_.Is(TokenKind::kBlockBegin) && IsOneOf(tokens_.PeekSecond(), ends)) {
        tokens_.Next();
        expressions_.Leave();
        return block;
      }
      Statement statement;
      statement.line = tokens_.line();
      TC_RETURN_IF_ERROR(ParseStatement(statement));
      block.push_back(std::move(statement));
    }
    if (ends.size() > 0) {
      return InvalidArgument(
          Str("template block has no end: expected ", *(ends.end() - 1), Kv("line", line)));
    }
    return block;
  }

  static bool IsOneOf(const Token& token, Names names) {
    for (const std::string_view name : names) {
      if (token.kind == TokenKind::kName && token.text == name) return true;
    }
    return false;
  }

  Status CloseTag() { return tokens_.Expect(TokenKind::kBlockEnd, "%}"); }

  // `end %}`, the word having been checked by ParseBlock.
  Status CloseBlock() {
    tokens_.Next();
    return CloseTag();
  }

  Status ParseStatement(Statement& statement) {
    if (tokens_.Is(TokenKind::kText)) {
      statement.node = TextStatement{tokens_.Next().text};
      return OkStatus();
    }
    if (tokens_.Is(TokenKind::kVariableBegin)) {
      tokens_.Next();
      OutputStatement output;
      TC_ASSIGN_OR_RETURN(output.value, expressions_.ParseTuple(true));
      statement.node = std::move(output);
      return tokens_.Expect(TokenKind::kVariableEnd, "}}");
    }
    TC_RETURN_IF_ERROR(tokens_.Expect(TokenKind::kBlockBegin, "{%"));
    return ParseTag(statement);
  }

  Status ParseTag(Statement& statement) {
    const int line = tokens_.line();
    TC_ASSIGN_OR_RETURN(const std::string word, tokens_.ExpectName());
    if (word == "if") return ParseIf(statement);
    if (word == "for") return ParseFor(statement);
    if (word == "set") return ParseSet(statement);
    if (word == "macro") return ParseMacro(statement);
    if (word == "filter") return ParseFilterBlock(statement);
    if (word == "generation") return ParseGeneration(statement);
    if (word == "break" || word == "continue") {
      if (n_loops_ == 0) {
        return InvalidArgument(Str("template has ", word, " outside a loop:", Kv("line", line)));
      }
      statement.node = LoopControlStatement{word == "break"};
      return CloseTag();
    }
    if (word.starts_with("end") || word == "else" || word == "elif") {
      return InvalidArgument(
          Str("template tag closes nothing: ", Printable(word), Kv("line", line)));
    }
    return InvalidArgument(
        Str("template statement not supported: ", Printable(word), Kv("line", line)));
  }

  Status ParseIf(Statement& statement) {
    IfStatement node;
    std::string word;
    do {
      IfStatement::Branch branch;
      TC_ASSIGN_OR_RETURN(branch.condition, expressions_.ParseTuple(false));
      TC_RETURN_IF_ERROR(CloseTag());
      TC_ASSIGN_OR_RETURN(branch.body, ParseBlock({"elif", "else", "endif"}));
      node.branches.push_back(std::move(branch));
      word = tokens_.Next().text;
    } while (word == "elif");
    TC_RETURN_IF_ERROR(CloseTag());
    if (word == "else") {
      TC_ASSIGN_OR_RETURN(node.otherwise, ParseBlock({"endif"}));
      TC_RETURN_IF_ERROR(CloseBlock());
    }
    statement.node = std::move(node);
    return OkStatus();
  }

  Result<Target> ParseTarget() {
    Target target;
    const bool parenthesized = tokens_.SkipOperator("(");
    do {
      if (!target.names.empty() && !tokens_.Is(TokenKind::kName)) break;  // trailing comma
      TC_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
      expressions_.DeclareName(name);
      target.names.push_back(std::move(name));
      target.unpack = target.unpack || tokens_.IsOperator(",");
    } while (tokens_.SkipOperator(","));
    if (parenthesized) TC_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    return target;
  }

  Status ParseFor(Statement& statement) {
    ForStatement node;
    TC_ASSIGN_OR_RETURN(node.target, ParseTarget());
    if (!tokens_.SkipName("in")) return tokens_.Unexpected("in");
    TC_ASSIGN_OR_RETURN(node.iterable, expressions_.ParseTuple(false));
    if (tokens_.SkipName("if")) {
      TC_ASSIGN_OR_RETURN(node.filter, expressions_.ParseExpression());
    }
    if (tokens_.IsName("recursive")) {
      return tokens_.Error("template construct not supported: recursive for");
    }
    TC_RETURN_IF_ERROR(CloseTag());
    ++n_loops_;
    TC_ASSIGN_OR_RETURN(node.body, ParseBlock({"else", "endfor"}));
    --n_loops_;
    const std::string word = tokens_.Next().text;
    TC_RETURN_IF_ERROR(CloseTag());
    if (word == "else") {
      TC_ASSIGN_OR_RETURN(node.otherwise, ParseBlock({"endfor"}));
      TC_RETURN_IF_ERROR(CloseBlock());
    }
    statement.node = std::move(node);
    return OkStatus();
  }

  Status ParseSet(Statement& statement) {
    TC_ASSIGN_OR_RETURN(Target target, ParseTarget());
    if (!target.unpack && tokens_.SkipOperator(".")) {
      TC_ASSIGN_OR_RETURN(target.attribute, tokens_.ExpectName());
      expressions_.DeclareAttribute(target.attribute);
    }
    if (tokens_.SkipOperator("=")) {
      SetStatement node;
      node.target = std::move(target);
      TC_ASSIGN_OR_RETURN(node.value, expressions_.ParseTuple(true));
      statement.node = std::move(node);
      return CloseTag();
    }
    SetBlockStatement node;
    node.target = std::move(target);
    if (tokens_.SkipOperator("|")) {
      TC_ASSIGN_OR_RETURN(node.filters, expressions_.ParseFilters());
    }
    TC_RETURN_IF_ERROR(CloseTag());
    TC_ASSIGN_OR_RETURN(node.body, ParseSealedBlock("endset"));
    statement.node = std::move(node);
    return OkStatus();
  }

  // A body that a break cannot leave, with its end tag.
  Result<Block> ParseSealedBlock(std::string_view end) {
    const int n_outer_loops = std::exchange(n_loops_, 0);
    TC_ASSIGN_OR_RETURN(Block body, ParseBlock({end}));
    n_loops_ = n_outer_loops;
    TC_RETURN_IF_ERROR(CloseBlock());
    return body;
  }

  Status ParseMacro(Statement& statement) {
    MacroStatement node;
    TC_ASSIGN_OR_RETURN(node.name, tokens_.ExpectName());
    expressions_.DeclareName(node.name);
    TC_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
    while (!tokens_.IsOperator(")")) {
      TC_ASSIGN_OR_RETURN(std::string name, tokens_.ExpectName());
      expressions_.DeclareName(name);
      ExprPtr fallback;
      if (tokens_.SkipOperator("=")) {
        TC_ASSIGN_OR_RETURN(fallback, expressions_.ParseExpression());
      } else if (!node.parameters.empty() && node.parameters.back().second != nullptr) {
        return tokens_.Unexpected("a default value");
      }
      node.parameters.emplace_back(std::move(name), std::move(fallback));
      if (!tokens_.SkipOperator(",")) break;
    }
    TC_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    TC_RETURN_IF_ERROR(CloseTag());
    TC_ASSIGN_OR_RETURN(node.body, ParseSealedBlock("endmacro"));
    statement.node = std::move(node);
    return OkStatus();
  }

  Status ParseFilterBlock(Statement& statement) {
    FilterStatement node;
    TC_ASSIGN_OR_RETURN(node.filters, expressions_.ParseFilters());
    TC_RETURN_IF_ERROR(CloseTag());
    TC_ASSIGN_OR_RETURN(node.body, ParseSealedBlock("endfilter"));
    statement.node = std::move(node);
    return OkStatus();
  }

  Status ParseGeneration(Statement& statement) {
    TC_RETURN_IF_ERROR(CloseTag());
    TC_ASSIGN_OR_RETURN(Block body, ParseSealedBlock("endgeneration"));
    statement.node = ScopeStatement{std::move(body)};
    return OkStatus();
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int n_loops_ = 0;  // loops around the current place
};

}  // namespace

Result<Block> Parse(std::string_view source, int max_depth) {
  TC_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return StatementParser(std::move(tokens), max_depth).Run();
}

}  // namespace thermocline::model::jinja
