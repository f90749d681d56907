// The syntax tree of a template. Built by the parser, then never changed; the evaluator reads it
// from any thread.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "model/jinja/builtin.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow, kConcat };
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };
enum class UnaryOp : uint8_t { kNegate, kPlus, kNot };

struct StringLiteral {
  std::string text;
};
struct Constant {  // None, a bool or a number
  Value value;
};
struct NameRef {
  std::string name;
};
struct SequenceLiteral {
  bool is_tuple = false;
  std::vector<ExprPtr> items;
};
struct DictLiteral {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
struct UnaryExpr {
  UnaryOp op;
  ExprPtr operand;
};
// Operators of one precedence, left to right. One node however long the chain, so that a long sum
// is not a deep tree.
struct ArithmeticExpr {
  ExprPtr first;
  std::vector<std::pair<BinaryOp, ExprPtr>> rest;
};
struct LogicExpr {
  bool is_and = false;
  std::vector<ExprPtr> operands;
};
struct CompareExpr {  // a < b < c means a < b and b < c
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct ConditionalExpr {
  ExprPtr condition;
  ExprPtr then;
  ExprPtr otherwise;  // may be null: undefined
};
struct AttributeExpr {
  ExprPtr object;
  std::string name;
};
struct SubscriptExpr {
  ExprPtr object;
  ExprPtr index;
};
struct SliceExpr {
  ExprPtr object;
  ExprPtr begin, end, step;  // each may be null
};
struct ArgumentList {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};
struct CallExpr {
  ExprPtr callee;
  ArgumentList arguments;
};
struct FilterUse {
  const Builtin* filter = nullptr;
  ArgumentList arguments;
};
struct FilterExpr {
  ExprPtr input;
  FilterUse use;
};
struct TestExpr {
  ExprPtr input;
  const Builtin* test = nullptr;
  ArgumentList arguments;
};

struct Expr {
  int line = 0;
  int height = 1;  // 1 + that of the tallest child; bounds every recursion over the tree
  std::variant<StringLiteral, Constant, NameRef, SequenceLiteral, DictLiteral, UnaryExpr,
               ArithmeticExpr, LogicExpr, CompareExpr, ConditionalExpr, AttributeExpr,
               SubscriptExpr, SliceExpr, CallExpr, FilterExpr, TestExpr>
      node;
};

struct Statement;
using Block = std::vector<Statement>;

// What set and for assign to: one name, several (unpacking), or an attribute of a namespace.
struct Target {
  std::vector<std::string> names;
  bool unpack = false;
  std::string attribute;  // of names[0]; "" = the name itself
};

struct TextStatement {
  std::string text;
};
struct OutputStatement {
  ExprPtr value;
};
struct IfStatement {
  struct Branch;
  std::vector<Branch> branches;  // if, elif...
  Block otherwise;
};
struct ForStatement {
  Target target;
  ExprPtr iterable;
  ExprPtr filter;  // may be null
  Block body;
  Block otherwise;  // runs when there was nothing to loop over
};
struct SetStatement {
  Target target;
  ExprPtr value;
};
struct SetBlockStatement {
  Target target;
  std::vector<FilterUse> filters;
  Block body;
};
struct MacroStatement {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // default may be null
  Block body;
};
struct FilterStatement {
  std::vector<FilterUse> filters;
  Block body;
};
struct ScopeStatement {  // generation: a marker for training; prints its body
  Block body;
};
struct LoopControlStatement {
  bool is_break = false;
};

struct Statement {
  int line = 0;
  std::variant<TextStatement, OutputStatement, IfStatement, ForStatement, SetStatement,
               SetBlockStatement, MacroStatement, FilterStatement, ScopeStatement,
               LoopControlStatement>
      node;
};

struct IfStatement::Branch {
  ExprPtr condition;
  Block body;
};

// A macro with the scope it was defined in.
struct MacroObject {
  const MacroStatement* definition;
  struct Scope* scope;
};

}  // namespace thermocline::model::jinja
