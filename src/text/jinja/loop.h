#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// Variables of one block of a template.
struct Scope : Object {
  explicit Scope(Scope* p) : Object(ObjectType::kNamespace), parent(p) {}
  Scope* parent;
  bool captured = false;  // a macro or recursive loop refers to it: it is not used again for another block
  std::vector<std::pair<Symbol, Value>> variables;

  Value* find(Symbol symbol) {
    for (auto& [name, value] : variables)
      if (name == symbol) return &value;
    return nullptr;
  }
};

// The variable `loop` of a running for statement.
struct Loop : Object {
  Loop(const ForStmt& s, Scope* outer, int d) : Object(ObjectType::kLoop), stmt(s), scope(outer), depth(d) {}
  const ForStmt& stmt;
  Scope* scope;              // around the loop: where a recursive call runs
  int depth;                 // 1 for the outermost of recursive loops
  std::vector<Value> items;  // emptied when the loop ends
  size_t length = 0;
  size_t index0 = 0;
  std::optional<std::vector<Value>> last_changed;
};

// loop.name, nothing when there is no such attribute.
std::optional<Value> loop_attribute(Runtime& rt, Loop& loop, std::string_view name);

// A macro, or the caller() of a call block, with the scope it was defined in.
struct Macro : Object {
  Macro(const MacroStmt& s, Scope* c) : Object(ObjectType::kMacro), stmt(s), closure(c) {}
  const MacroStmt& stmt;
  Scope* closure;
};

}  // namespace fettle::text::jinja
