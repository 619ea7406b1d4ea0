#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/filters.h"
#include "text/jinja/value.h"

// Syntax tree of a template. Nodes are plain data; the interpreter switches on `kind`. The parser bounds the depth, so
// recursion over a tree is safe; long operator chains are flat lists for the same reason.
namespace fettle::text::jinja {

using Symbol = uint32_t;  // index into Program::symbols

enum class ExprKind {
  kConst,
  kName,
  kList,
  kTuple,
  kDict,
  kNot,
  kNegate,
  kPlus,
  kArithmetic,
  kConcat,
  kAnd,
  kOr,
  kCompare,
  kConditional,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kNamespaceTarget,
};

struct Expr {
  Expr(ExprKind k, int l) : kind(k), line(l) {}
  virtual ~Expr() = default;
  const ExprKind kind;
  const int line;
};
using ExprPtr = std::unique_ptr<Expr>;

struct ConstExpr : Expr {
  ConstExpr(int l, Value v) : Expr(ExprKind::kConst, l), value(std::move(v)) {}
  Value value;
};

struct NameExpr : Expr {
  NameExpr(int l, Symbol s) : Expr(ExprKind::kName, l), symbol(s) {}
  Symbol symbol;
};

// kList, kTuple, kConcat (a ~ b ~ c), kAnd, kOr: items. kNot, kNegate, kPlus: one item.
struct ItemsExpr : Expr {
  using Expr::Expr;
  std::vector<ExprPtr> items;
};

struct DictExpr : Expr {
  explicit DictExpr(int l) : Expr(ExprKind::kDict, l) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

enum class BinaryOp { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
// first op operand op operand ..., evaluated from the left.
struct ArithmeticExpr : Expr {
  explicit ArithmeticExpr(int l) : Expr(ExprKind::kArithmetic, l) {}
  ExprPtr first;
  std::vector<std::pair<BinaryOp, ExprPtr>> rest;
};

enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
// a < b < c means a < b and b < c, as in Python.
struct CompareExpr : Expr {
  explicit CompareExpr(int l) : Expr(ExprKind::kCompare, l) {}
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};

struct ConditionalExpr : Expr {
  explicit ConditionalExpr(int l) : Expr(ExprKind::kConditional, l) {}
  ExprPtr test, value, otherwise;  // otherwise may be null: undefined
};

// kAttribute: object.name. kNamespaceTarget: the target of {% set object.name = ... %}.
struct AttributeExpr : Expr {
  using Expr::Expr;
  ExprPtr object;
  std::string name;
};

struct ItemExpr : Expr {
  explicit ItemExpr(int l) : Expr(ExprKind::kItem, l) {}
  ExprPtr object, index;
};

// Only as the index of an ItemExpr; absent parts are null.
struct SliceExpr : Expr {
  explicit SliceExpr(int l) : Expr(ExprKind::kSlice, l) {}
  ExprPtr start, stop, step;
};

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;  // may be null
};

struct CallExpr : Expr {
  explicit CallExpr(int l) : Expr(ExprKind::kCall, l) {}
  ExprPtr callee;
  CallArguments arguments;
};

struct FilterExpr : Expr {
  explicit FilterExpr(int l) : Expr(ExprKind::kFilter, l) {}
  ExprPtr input;  // null at the bottom of a filter block: the block's text
  std::string name;
  FilterFn filter = nullptr;  // null: unknown, an error only when it runs
  CallArguments arguments;
};

struct TestExpr : Expr {
  explicit TestExpr(int l) : Expr(ExprKind::kTest, l) {}
  ExprPtr input;
  std::string name;
  TestFn test = nullptr;
  CallArguments arguments;
};

enum class StmtKind {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kScope,
  kBreak,
  kContinue,
};

struct Stmt {
  Stmt(StmtKind k, int l) : kind(k), line(l) {}
  virtual ~Stmt() = default;
  const StmtKind kind;
  const int line;
};
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

struct TextStmt : Stmt {
  TextStmt(int l, std::string t) : Stmt(StmtKind::kText, l), text(std::move(t)) {}
  std::string text;
};

struct PrintStmt : Stmt {
  PrintStmt(int l, ExprPtr v) : Stmt(StmtKind::kPrint, l), value(std::move(v)) {}
  ExprPtr value;
};

struct IfStmt : Stmt {
  explicit IfStmt(int l) : Stmt(StmtKind::kIf, l) {}
  std::vector<std::pair<ExprPtr, Block>> branches;
  Block otherwise;
};

struct ForStmt : Stmt {
  explicit ForStmt(int l) : Stmt(StmtKind::kFor, l) {}
  ExprPtr target, iterable, condition;  // condition may be null
  bool recursive = false;
  Block body, otherwise;
};

struct SetStmt : Stmt {
  explicit SetStmt(int l) : Stmt(StmtKind::kSet, l) {}
  ExprPtr target, value;
};

struct SetBlockStmt : Stmt {
  explicit SetBlockStmt(int l) : Stmt(StmtKind::kSetBlock, l) {}
  ExprPtr target, filter;  // filter may be null
  Block body;
};

// Parameters and body of a macro or of a call block's caller().
struct MacroStmt : Stmt {
  explicit MacroStmt(int l) : Stmt(StmtKind::kMacro, l) {}
  Symbol symbol = 0;
  std::string name;
  std::vector<std::pair<Symbol, std::string>> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  Block body;
  // Whether the body mentions the names varargs, kwargs and caller: only then may a call bring them.
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
};

struct CallBlockStmt : Stmt {
  explicit CallBlockStmt(int l) : Stmt(StmtKind::kCallBlock, l) {}
  ExprPtr call;  // a CallExpr
  std::unique_ptr<MacroStmt> caller;
};

struct FilterBlockStmt : Stmt {
  explicit FilterBlockStmt(int l) : Stmt(StmtKind::kFilterBlock, l) {}
  ExprPtr filter;
  Block body;
};

// with, generation, block: a body in a scope of its own.
struct ScopeStmt : Stmt {
  explicit ScopeStmt(int l) : Stmt(StmtKind::kScope, l) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> assignments;  // values are evaluated outside the scope
  Block body;
};

struct BreakStmt : Stmt {
  BreakStmt(int l, StmtKind k) : Stmt(k, l) {}
};

// A parsed template.
struct Program {
  std::string name;
  std::vector<std::string> symbols;
  Block body;
};

}  // namespace fettle::text::jinja
