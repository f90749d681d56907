// A cursor over the tokens of a template, shared by the expression and the statement parser.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/str.h"
#include "model/jinja/lexer.h"

namespace thermocline::model::jinja {

// Thread-compatible.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek() const { return tokens_[at_]; }
  // The token after the next one; the end stays the end.
  const Token& PeekSecond() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  // Takes the next token; at the end it stays there.
  Token Next() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  int line() const { return Peek().line; }

  bool Is(TokenKind kind) const { return Peek().kind == kind; }
  bool IsOperator(std::string_view text) const {
    return Is(TokenKind::kOperator) && Peek().text == text;
  }
  bool IsName(std::string_view text) const { return Is(TokenKind::kName) && Peek().text == text; }

  bool SkipOperator(std::string_view text) { return SkipIf(IsOperator(text)); }
  bool SkipName(std::string_view text) { return SkipIf(IsName(text)); }

  Status Expect(TokenKind kind, std::string_view what) {
    if (SkipIf(Is(kind))) return OkStatus();
    return Unexpected(what);
  }
  Status ExpectOperator(std::string_view text) {
    if (SkipOperator(text)) return OkStatus();
    return Unexpected(text);
  }
  Result<std::string> ExpectName() {
    if (!Is(TokenKind::kName)) return Unexpected("a name");
    return Next().text;
  }

  // An error that says what was wanted and what stands there.
  Status Unexpected(std::string_view wanted) const {
    return Error(Str("template syntax: expected ", wanted, ", found ", Describe()));
  }
  Status Error(std::string_view fact) const {
    return InvalidArgument(Str(fact, Kv("line", line())));
  }

 private:
  bool SkipIf(bool condition) {
    if (condition) Next();
    return condition;
  }

  std::string Describe() const {
    switch (Peek().kind) {
      case TokenKind::kText:
        return "template text";
      case TokenKind::kBlockBegin:
        return "{%";
      case TokenKind::kBlockEnd:
        return "%}";
      case TokenKind::kVariableBegin:
        return "{{";
      case TokenKind::kVariableEnd:
        return "}}";
      case TokenKind::kEnd:
        return "the end of the template";
      default:
        return Str("\"", Printable(Peek().text, 40), "\"");
    }
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace thermocline::model::jinja
