#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/jinja/ast.h"
#include "text/jinja/loop.h"
#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// Renders one template once. Blocks run in exec.cpp, expressions in eval.cpp.
class Interpreter : public Runtime {
 public:
  // `context`: an object whose members are the variables. Strings below a member count as input unless `is_trusted`
  // says otherwise for its name. Program, context and predicate must outlive the interpreter.
  Interpreter(const Program& program, const Json& context, std::function<bool(std::string_view)> is_trusted,
              const Options& options);

  MarkedText run();

  Value call(const Value& callee, const Args& args) override;

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // Statements.
  Flow exec_block(const Block& block);
  Flow exec(const Stmt& stmt);
  Flow exec_if(const IfStmt& stmt);
  Flow exec_for(const ForStmt& stmt);
  Flow exec_scope(const ScopeStmt& stmt);
  Flow exec_set_block(const SetBlockStmt& stmt);
  Flow exec_filter_block(const FilterBlockStmt& stmt);
  void exec_call_block(const CallBlockStmt& stmt);
  Flow run_loop(const ForStmt& stmt, std::vector<Value> items, int depth);
  Flow run_iterations(const ForStmt& stmt, const std::vector<Value>& items, Loop* loop);
  std::vector<Value> keep_matching(const ForStmt& stmt, std::vector<Value> items);
  void define_macro(const MacroStmt& stmt);
  Value make_macro(const MacroStmt& stmt);
  void print(const MarkedText& text);

  // Expressions.
  Value eval(const Expr& expr);
  Value eval_node(const Expr& expr);
  Value eval_items(const ItemsExpr& expr, ObjectType type);
  Value eval_dict(const DictExpr& expr);
  Value eval_arithmetic(const ArithmeticExpr& expr);
  Value eval_concat(const ItemsExpr& expr);
  Value eval_logic(const ItemsExpr& expr, bool stop_at);
  Value eval_compare(const CompareExpr& expr);
  Value eval_conditional(const ConditionalExpr& expr);
  Value eval_item(const ItemExpr& expr);
  Value eval_call(const CallExpr& expr, const Value* caller = nullptr);
  Value eval_filter(const FilterExpr& expr);
  Value eval_test(const TestExpr& expr);
  Args eval_arguments(const CallArguments& arguments);
  Value call_macro(const Macro& macro, const Args& args);
  void bind_parameters(const Macro& macro, const Args& args);
  Value call_loop(const Loop& loop, const Args& args);

  // Variables.
  Value lookup(Symbol symbol);
  const Value& context_or_global(Symbol symbol);
  void assign(const Expr& target, Value value);
  void set_variable(Symbol symbol, Value value);
  std::optional<Symbol> symbol_of(std::string_view name) const;
  Scope* enter_scope(Scope* parent);
  void leave_scope(Scope* scope) noexcept;
  void capture_scopes();

  // Makes a scope current while it lives.
  class InScope {
   public:
    InScope(Interpreter& interpreter, Scope* parent);
    ~InScope();
    InScope(const InScope&) = delete;
    InScope& operator=(const InScope&) = delete;

   private:
    Interpreter& interpreter_;
    Scope* const outer_;
    Scope* const own_;
  };
  // Sends output to a text while it lives.
  class Capture {
   public:
    Capture(Interpreter& interpreter, MarkedText* target) : interpreter_(interpreter), outer_(interpreter.out_) {
      interpreter.out_ = target;
    }
    ~Capture() { interpreter_.out_ = outer_; }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

   private:
    Interpreter& interpreter_;
    MarkedText* outer_;
  };
  class Depth {
   public:
    Depth(Interpreter& interpreter, int& counter, int limit, const char* what);
    ~Depth() { --counter_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    int& counter_;
  };

  const Program& program_;
  const Json& context_;
  const std::function<bool(std::string_view)> is_trusted_;
  std::vector<std::optional<Value>> globals_;  // by symbol, filled at first use
  std::optional<Symbol> loop_symbol_, varargs_symbol_, kwargs_symbol_, caller_symbol_;
  std::vector<Scope*> free_scopes_;  // capacity for every scope ever made: giving one back cannot fail
  size_t scopes_made_ = 0;
  Scope* scope_ = nullptr;
  MarkedText* out_ = nullptr;
  const Value* block_text_ = nullptr;  // input of the innermost filter block's first filter
  int call_depth_ = 0;
  int tree_depth_ = 0;
};

}  // namespace fettle::text::jinja
