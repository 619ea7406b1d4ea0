#include "text/jinja/from_json.h"
#include "text/jinja/globals.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace fettle::text::jinja {

Interpreter::Interpreter(const Program& program, const Json& context, std::function<bool(std::string_view)> is_trusted,
                         const Options& options)
    : Runtime(program.name, options),
      program_(program),
      context_(context),
      is_trusted_(std::move(is_trusted)),
      globals_(program.symbols.size()),
      loop_symbol_(symbol_of("loop")),
      varargs_symbol_(symbol_of("varargs")),
      kwargs_symbol_(symbol_of("kwargs")),
      caller_symbol_(symbol_of("caller")) {}

MarkedText Interpreter::run() {
  MarkedText out;
  const Capture capture(*this, &out);
  const InScope root(*this, nullptr);
  exec_block(program_.body);
  return out;
}

Interpreter::InScope::InScope(Interpreter& interpreter, Scope* parent)
    : interpreter_(interpreter), outer_(interpreter.scope_), own_(interpreter.enter_scope(parent)) {
  interpreter.scope_ = own_;
}

Interpreter::InScope::~InScope() {
  interpreter_.leave_scope(own_);
  interpreter_.scope_ = outer_;
}

Interpreter::Depth::Depth(Interpreter& interpreter, int& counter, int limit, const char* what) : counter_(counter) {
  if (counter_ >= limit)
    fail(ErrorCode::kResource, "{}: line {}: {} deeper than {}", interpreter.program_.name, interpreter.line(), what,
         limit);
  ++counter_;
}

Scope* Interpreter::enter_scope(Scope* parent) {
  if (free_scopes_.empty()) {
    if (++scopes_made_ > free_scopes_.capacity()) free_scopes_.reserve(2 * scopes_made_);
    return &make<Scope>(parent);
  }
  Scope* scope = free_scopes_.back();
  free_scopes_.pop_back();
  scope->parent = parent;
  return scope;
}

void Interpreter::leave_scope(Scope* scope) noexcept {
  if (scope->captured) return;
  scope->variables.clear();
  free_scopes_.push_back(scope);
}

void Interpreter::capture_scopes() {
  for (Scope* scope = scope_; scope && !scope->captured; scope = scope->parent) scope->captured = true;
}

void Interpreter::print(const MarkedText& text) {
  check_text_size(out_->size() + text.size());
  step_bytes(text.size());
  out_->append(text);
}

Interpreter::Flow Interpreter::exec_block(const Block& block) {
  for (const StmtPtr& stmt : block) {
    const Flow flow = exec(*stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec(const Stmt& stmt) {
  const Depth depth(*this, tree_depth_, options().limits.tree_depth, "evaluation nests");
  set_line(stmt.line);
  step();
  switch (stmt.kind) {
    case StmtKind::kText:
      print(MarkedText(static_cast<const TextStmt&>(stmt).text));
      return Flow::kNext;
    case StmtKind::kPrint: {
      const Value value = eval(*static_cast<const PrintStmt&>(stmt).value);
      print(value.is_string() ? value.text() : to_text(*this, value));
      return Flow::kNext;
    }
    case StmtKind::kIf:
      return exec_if(static_cast<const IfStmt&>(stmt));
    case StmtKind::kFor:
      return exec_for(static_cast<const ForStmt&>(stmt));
    case StmtKind::kSet: {
      const auto& set = static_cast<const SetStmt&>(stmt);
      assign(*set.target, eval(*set.value));
      return Flow::kNext;
    }
    case StmtKind::kSetBlock:
      return exec_set_block(static_cast<const SetBlockStmt&>(stmt));
    case StmtKind::kMacro:
      define_macro(static_cast<const MacroStmt&>(stmt));
      return Flow::kNext;
    case StmtKind::kCallBlock:
      exec_call_block(static_cast<const CallBlockStmt&>(stmt));
      return Flow::kNext;
    case StmtKind::kFilterBlock:
      return exec_filter_block(static_cast<const FilterBlockStmt&>(stmt));
    case StmtKind::kScope:
      return exec_scope(static_cast<const ScopeStmt&>(stmt));
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_if(const IfStmt& stmt) {
  for (const auto& [test, body] : stmt.branches)
    if (truthy(eval(*test))) return exec_block(body);
  return exec_block(stmt.otherwise);
}

Interpreter::Flow Interpreter::exec_for(const ForStmt& stmt) {
  const Value iterable = eval(*stmt.iterable);
  return run_loop(stmt, elements(*this, iterable), 1);
}

// Items for which the loop's own `if` holds; they alone count for loop.index and loop.length.
std::vector<Value> Interpreter::keep_matching(const ForStmt& stmt, std::vector<Value> items) {
  const InScope scope(*this, scope_);
  std::vector<Value> kept;
  for (Value& item : items) {
    assign(*stmt.target, item);
    if (truthy(eval(*stmt.condition))) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::run_loop(const ForStmt& stmt, std::vector<Value> items, int depth) {
  if (stmt.condition) items = keep_matching(stmt, std::move(items));
  if (items.empty()) {
    const InScope scope(*this, scope_);
    return exec_block(stmt.otherwise);
  }
  if (!loop_symbol_) return run_iterations(stmt, items, nullptr);
  if (stmt.recursive) capture_scopes();
  Loop& loop = make<Loop>(stmt, scope_, depth);
  loop.items = std::move(items);
  loop.length = loop.items.size();
  grow(loop.length * sizeof(Value));
  const Flow flow = run_iterations(stmt, loop.items, &loop);
  shrink(loop.length * sizeof(Value));
  loop.items = {};
  return flow;
}

Interpreter::Flow Interpreter::run_iterations(const ForStmt& stmt, const std::vector<Value>& items, Loop* loop) {
  for (size_t i = 0; i < items.size(); ++i) {
    const InScope scope(*this, scope_);
    step();
    if (loop) {
      loop->index0 = i;
      set_variable(*loop_symbol_, Value(loop));
    }
    assign(*stmt.target, items[i]);
    if (exec_block(stmt.body) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_scope(const ScopeStmt& stmt) {
  std::vector<Value> values;
  for (const auto& assignment : stmt.assignments) values.push_back(eval(*assignment.second));
  const InScope scope(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(*stmt.assignments[i].first, std::move(values[i]));
  return exec_block(stmt.body);
}

Interpreter::Flow Interpreter::exec_set_block(const SetBlockStmt& stmt) {
  MarkedText body;
  {
    const Capture capture(*this, &body);
    const InScope scope(*this, scope_);
    const Flow flow = exec_block(stmt.body);
    if (flow != Flow::kNext) return flow;  // a break inside drops what was collected
  }
  Value value = text(std::move(body));
  if (stmt.filter) {
    const Value* const outer = std::exchange(block_text_, &value);
    Value filtered = eval(*stmt.filter);
    block_text_ = outer;
    value = std::move(filtered);
  }
  assign(*stmt.target, std::move(value));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_filter_block(const FilterBlockStmt& stmt) {
  MarkedText body;
  {
    const Capture capture(*this, &body);
    const InScope scope(*this, scope_);
    const Flow flow = exec_block(stmt.body);
    if (flow != Flow::kNext) return flow;
  }
  const Value value = text(std::move(body));
  const Value* const outer = std::exchange(block_text_, &value);
  const Value filtered = eval(*stmt.filter);
  block_text_ = outer;
  print(to_text(*this, filtered));
  return Flow::kNext;
}

Value Interpreter::make_macro(const MacroStmt& stmt) {
  capture_scopes();
  return Value(&make<Macro>(stmt, scope_));
}

void Interpreter::define_macro(const MacroStmt& stmt) { set_variable(stmt.symbol, make_macro(stmt)); }

void Interpreter::exec_call_block(const CallBlockStmt& stmt) {
  const Value caller = make_macro(*stmt.caller);
  const Value result = eval_call(static_cast<const CallExpr&>(*stmt.call), &caller);
  print(to_text(*this, result));
}

std::optional<Symbol> Interpreter::symbol_of(std::string_view name) const {
  for (size_t i = 0; i < program_.symbols.size(); ++i)
    if (program_.symbols[i] == name) return static_cast<Symbol>(i);
  return std::nullopt;
}

Value Interpreter::lookup(Symbol symbol) {
  for (Scope* scope = scope_; scope; scope = scope->parent)
    if (const Value* found = scope->find(symbol)) return *found;
  return context_or_global(symbol);
}

const Value& Interpreter::context_or_global(Symbol symbol) {
  std::optional<Value>& known = globals_[symbol];
  if (known) return *known;
  const std::string& name = program_.symbols[symbol];
  if (const Json* member = context_.find(name))
    known = from_json(*this, *member, !is_trusted_(name));
  else if (auto global = find_global(*this, name))
    known = std::move(*global);
  else
    known = Value::undefined("'" + name + "' is undefined");
  return *known;
}

void Interpreter::set_variable(Symbol symbol, Value value) {
  if (Value* existing = scope_->find(symbol))
    *existing = std::move(value);
  else
    scope_->variables.emplace_back(symbol, std::move(value));
}

void Interpreter::assign(const Expr& target, Value value) {
  if (target.kind == ExprKind::kName)
    return set_variable(static_cast<const NameExpr&>(target).symbol, std::move(value));
  if (target.kind == ExprKind::kNamespaceTarget) {
    const auto& attribute = static_cast<const AttributeExpr&>(target);
    const Value object = eval(*attribute.object);
    if (!object.is_object(ObjectType::kNamespace)) error("cannot assign attribute on non-namespace object");
    return dict_set(object.dict(), text(attribute.name), std::move(value));
  }
  const auto& targets = static_cast<const ItemsExpr&>(target).items;
  const std::vector<Value> parts = elements(*this, value);
  if (parts.size() != targets.size()) error("cannot unpack {} values into {} names", parts.size(), targets.size());
  for (size_t i = 0; i < parts.size(); ++i) assign(*targets[i], parts[i]);
}

}  // namespace fettle::text::jinja
