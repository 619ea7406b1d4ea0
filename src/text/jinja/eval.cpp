#include <algorithm>

#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace fettle::text::jinja {

Value Interpreter::eval(const Expr& expr) {
  const Depth depth(*this, tree_depth_, options().limits.tree_depth, "evaluation nests");
  step();
  set_line(expr.line);
  return eval_node(expr);
}

Value Interpreter::eval_node(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kConst:
      return static_cast<const ConstExpr&>(expr).value;
    case ExprKind::kName:
      return lookup(static_cast<const NameExpr&>(expr).symbol);
    case ExprKind::kList:
      return eval_items(static_cast<const ItemsExpr&>(expr), ObjectType::kList);
    case ExprKind::kTuple:
      return eval_items(static_cast<const ItemsExpr&>(expr), ObjectType::kTuple);
    case ExprKind::kDict:
      return eval_dict(static_cast<const DictExpr&>(expr));
    case ExprKind::kNot:
      return Value(!truthy(eval(*static_cast<const ItemsExpr&>(expr).items[0])));
    case ExprKind::kNegate:
      return negate(*this, eval(*static_cast<const ItemsExpr&>(expr).items[0]));
    case ExprKind::kPlus: {
      const Value value = eval(*static_cast<const ItemsExpr&>(expr).items[0]);
      if (!value.is_number()) negate(*this, value);  // fails with the right message
      return value.is_bool() ? Value(value.integer()) : value;
    }
    case ExprKind::kArithmetic:
      return eval_arithmetic(static_cast<const ArithmeticExpr&>(expr));
    case ExprKind::kConcat:
      return eval_concat(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kAnd:
      return eval_logic(static_cast<const ItemsExpr&>(expr), false);
    case ExprKind::kOr:
      return eval_logic(static_cast<const ItemsExpr&>(expr), true);
    case ExprKind::kCompare:
      return eval_compare(static_cast<const CompareExpr&>(expr));
    case ExprKind::kConditional:
      return eval_conditional(static_cast<const ConditionalExpr&>(expr));
    case ExprKind::kAttribute: {
      const auto& attribute = static_cast<const AttributeExpr&>(expr);
      return get_attribute(*this, eval(*attribute.object), attribute.name);
    }
    case ExprKind::kItem:
      return eval_item(static_cast<const ItemExpr&>(expr));
    case ExprKind::kCall:
      return eval_call(static_cast<const CallExpr&>(expr));
    case ExprKind::kFilter:
      return eval_filter(static_cast<const FilterExpr&>(expr));
    case ExprKind::kTest:
      return eval_test(static_cast<const TestExpr&>(expr));
    case ExprKind::kSlice:
      error("a slice must be the only index");
    case ExprKind::kNamespaceTarget:
      error("not an expression");
  }
  return {};
}

Value Interpreter::eval_items(const ItemsExpr& expr, ObjectType type) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) items.push_back(eval(*item));
  return sequence(type, std::move(items));
}

Value Interpreter::eval_dict(const DictExpr& expr) {
  Dict& dict = new_dict();
  for (const auto& [key, value] : expr.entries) {
    const Value evaluated_key = eval(*key);
    dict_set(dict, evaluated_key, eval(*value));
  }
  return Value(&dict);
}

Value Interpreter::eval_arithmetic(const ArithmeticExpr& expr) {
  Value value = eval(*expr.first);
  for (const auto& [op, operand] : expr.rest) {
    const Value right = eval(*operand);
    value = arithmetic(*this, op, value, right);
  }
  return value;
}

Value Interpreter::eval_concat(const ItemsExpr& expr) {
  MarkedText out;
  for (const ExprPtr& item : expr.items) {
    const Value value = eval(*item);
    if (value.is_string())
      out.append(value.text());
    else
      out.append(to_text(*this, value));
    check_text_size(out.size());
  }
  return text(std::move(out));
}

// The first operand whose truth is stop_at, else the last one.
Value Interpreter::eval_logic(const ItemsExpr& expr, bool stop_at) {
  Value value;
  for (const ExprPtr& item : expr.items) {
    value = eval(*item);
    if (truthy(value) == stop_at) break;
  }
  return value;
}

Value Interpreter::eval_compare(const CompareExpr& expr) {
  Value left = eval(*expr.first);
  for (const auto& [op, operand] : expr.rest) {
    Value right = eval(*operand);
    if (!compare(*this, op, left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::eval_conditional(const ConditionalExpr& expr) {
  if (truthy(eval(*expr.test))) return eval(*expr.value);
  if (expr.otherwise) return eval(*expr.otherwise);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
}

Value Interpreter::eval_item(const ItemExpr& expr) {
  const Value object = eval(*expr.object);
  if (expr.index->kind != ExprKind::kSlice) return get_item(*this, object, eval(*expr.index));
  const auto& slice = static_cast<const SliceExpr&>(*expr.index);
  const Value start = slice.start ? eval(*slice.start) : Value();
  const Value stop = slice.stop ? eval(*slice.stop) : Value();
  const Value stride = slice.step ? eval(*slice.step) : Value();
  return get_slice(*this, object, start, stop, stride);
}

Args Interpreter::eval_arguments(const CallArguments& arguments) {
  Args args;
  args.positional.reserve(arguments.positional.size());
  for (const ExprPtr& argument : arguments.positional) args.positional.push_back(eval(*argument));
  for (const auto& [name, argument] : arguments.named) args.named.emplace_back(name, eval(*argument));
  if (arguments.star)
    for (Value& item : elements(*this, eval(*arguments.star))) args.positional.push_back(std::move(item));
  if (arguments.double_star) {
    const Value mapping = eval(*arguments.double_star);
    if (!mapping.is_dict()) error("argument after ** must be a mapping, not {}", mapping.type_name());
    for (const auto& [key, value] : mapping.dict().entries()) {
      if (!key.is_string()) error("keywords must be strings");
      args.named.emplace_back(key.bytes(), value);
    }
  }
  return args;
}

Value Interpreter::eval_call(const CallExpr& expr, const Value* caller) {
  const auto arguments = [&] {
    Args args = eval_arguments(expr.arguments);
    if (caller) args.named.emplace_back("caller", *caller);
    return args;
  };
  if (expr.callee->kind == ExprKind::kAttribute) {  // object.method(...) without making a bound method
    const auto& attribute = static_cast<const AttributeExpr&>(*expr.callee);
    const Value object = eval(*attribute.object);
    const MethodFn method = find_method(object, attribute.name);
    if (method && !(options().sandbox == Sandbox::kStrict && changes_object(object, attribute.name))) {
      const Args args = arguments();
      set_line(expr.line);
      return method(*this, object, args);
    }
    const Value callee = get_attribute(*this, object, attribute.name);
    return call(callee, arguments());
  }
  const Value callee = eval(*expr.callee);
  const Args args = arguments();
  set_line(expr.line);
  return call(callee, args);
}

Value Interpreter::call(const Value& callee, const Args& args) {
  if (callee.is_undefined()) undefined_error(callee);
  if (callee.is_object(ObjectType::kFunction)) return static_cast<const Function&>(*callee.object()).body(*this, args);
  if (callee.is_object(ObjectType::kMacro)) return call_macro(static_cast<const Macro&>(*callee.object()), args);
  if (callee.is_object(ObjectType::kLoop)) return call_loop(static_cast<const Loop&>(*callee.object()), args);
  error("'{}' object is not callable", callee.type_name());
}

Value Interpreter::call_macro(const Macro& macro, const Args& args) {
  const Depth depth(*this, call_depth_, options().limits.call_depth, "macro calls nest");
  MarkedText out;
  {
    const Capture capture(*this, &out);
    const InScope scope(*this, macro.closure);
    bind_parameters(macro, args);
    exec_block(macro.stmt.body);
  }
  return text(std::move(out));
}

void Interpreter::bind_parameters(const Macro& macro, const Args& args) {
  const MacroStmt& stmt = macro.stmt;
  const size_t count = stmt.parameters.size();
  std::vector<std::pair<std::string, Value>> named = args.named;
  const auto take_named = [&named](const std::string& name) -> std::optional<Value> {
    for (auto entry = named.begin(); entry != named.end(); ++entry) {
      if (entry->first != name) continue;
      Value value = std::move(entry->second);
      named.erase(entry);
      return value;
    }
    return std::nullopt;
  };
  std::vector<std::optional<Value>> given(count);
  for (size_t i = 0; i < count; ++i)
    given[i] =
        i < args.positional.size() ? std::optional<Value>(args.positional[i]) : take_named(stmt.parameters[i].second);
  if (stmt.uses_caller && caller_symbol_) {
    const bool is_parameter = std::any_of(stmt.parameters.begin(), stmt.parameters.end(),
                                          [](const auto& parameter) { return parameter.second == "caller"; });
    if (!is_parameter)
      set_variable(*caller_symbol_, take_named("caller").value_or(Value::undefined("no caller defined")));
  }
  if (stmt.uses_kwargs && kwargs_symbol_) {
    Dict& rest = new_dict();
    for (const auto& [name, value] : named) dict_set(rest, text(name), value);
    set_variable(*kwargs_symbol_, Value(&rest));
  } else if (!named.empty()) {
    error("macro '{}' takes no keyword argument '{}'", stmt.name, named.front().first);
  }
  if (stmt.uses_varargs && varargs_symbol_) {
    const auto first = static_cast<std::ptrdiff_t>(std::min(count, args.positional.size()));
    set_variable(*varargs_symbol_, tuple({args.positional.begin() + first, args.positional.end()}));
  } else if (args.positional.size() > count) {
    error("macro '{}' takes not more than {} arguments", stmt.name, count);
  }
  // Defaults may refer to earlier parameters.
  const size_t first_default = count - stmt.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    Value value = given[i] ? *std::move(given[i])
                  : i >= first_default
                      ? eval(*stmt.defaults[i - first_default])
                      : Value::undefined("parameter '" + stmt.parameters[i].second + "' was not provided");
    set_variable(stmt.parameters[i].first, std::move(value));
  }
}

Value Interpreter::call_loop(const Loop& loop, const Args& args) {
  if (!loop.stmt.recursive) error("the loop must have the 'recursive' marker to be called recursively");
  const Parameters p(*this, "loop", args, {"iterable"}, 1);
  const Depth depth(*this, call_depth_, options().limits.call_depth, "recursive loops nest");
  MarkedText out;
  const Capture capture(*this, &out);
  Scope* const outer = std::exchange(scope_, loop.scope);
  run_loop(loop.stmt, elements(*this, p[0]), loop.depth + 1);
  scope_ = outer;
  return text(std::move(out));
}

Value Interpreter::eval_filter(const FilterExpr& expr) {
  const Value input = expr.input ? eval(*expr.input) : *block_text_;
  const Args args = eval_arguments(expr.arguments);
  set_line(expr.line);
  if (!expr.filter) error("no filter named '{}'", expr.name);
  return expr.filter(*this, input, args);
}

Value Interpreter::eval_test(const TestExpr& expr) {
  const Value input = eval(*expr.input);
  const Args args = eval_arguments(expr.arguments);
  set_line(expr.line);
  if (!expr.test) error("no test named '{}'", expr.name);
  return Value(expr.test(*this, input, args));
}

}  // namespace fettle::text::jinja
