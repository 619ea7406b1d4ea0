#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "text/jinja/parser.h"
#include "text/jinja/parser_state.h"

namespace fettle::text::jinja {
namespace {

ExprPtr make_unary(ExprKind kind, int line, ExprPtr operand) {
  auto node = std::make_unique<ItemsExpr>(kind, line);
  node->items.push_back(std::move(operand));
  return node;
}

ExprPtr make_text(int line, std::string bytes) {
  return std::make_unique<ConstExpr>(line, Value(std::make_shared<const MarkedText>(std::move(bytes))));
}

}  // namespace

void Parser::check_chain(size_t length) const {
  if (length > static_cast<size_t>(kMaxNesting))
    fail(ErrorCode::kResource, "{}: line {}: chain of more than {} calls, filters or subscripts", program_->name,
         line(), kMaxNesting);
}

ExprPtr Parser::parse_expression() {
  const Nested nested(*this);
  return parse_conditional();
}

ExprPtr Parser::parse_conditional() {
  const size_t unknown_before = unknown_.size();
  ExprPtr value = parse_or();
  for (size_t links = 1; is_name("if"); check_chain(links++)) {
    auto node = std::make_unique<ConditionalExpr>(line());
    advance();
    node->value = std::move(value);
    node->test = parse_or();
    if (skip_name("else")) node->otherwise = parse_expression();
    value = std::move(node);
    unknown_.resize(unknown_before);
  }
  return value;
}

ExprPtr Parser::parse_or() {
  ExprPtr first = parse_and();
  if (!is_name("or")) return first;
  auto node = std::make_unique<ItemsExpr>(ExprKind::kOr, line());
  node->items.push_back(std::move(first));
  while (skip_name("or")) node->items.push_back(parse_and());
  return node;
}

ExprPtr Parser::parse_and() {
  ExprPtr first = parse_not();
  if (!is_name("and")) return first;
  auto node = std::make_unique<ItemsExpr>(ExprKind::kAnd, line());
  node->items.push_back(std::move(first));
  while (skip_name("and")) node->items.push_back(parse_not());
  return node;
}

ExprPtr Parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Nested nested(*this);
  const int at_line = line();
  advance();
  return make_unary(ExprKind::kNot, at_line, parse_not());
}

ExprPtr Parser::parse_compare() {
  static constexpr std::pair<std::string_view, CompareOp> kOperators[] = {
      {"==", CompareOp::kEqual},     {"!=", CompareOp::kNotEqual}, {"<", CompareOp::kLess},
      {"<=", CompareOp::kLessEqual}, {">", CompareOp::kGreater},   {">=", CompareOp::kGreaterEqual},
  };
  auto node = std::make_unique<CompareExpr>(line());
  node->first = parse_sum();
  while (true) {
    const CompareOp* found = nullptr;
    for (const auto& [text, op] : kOperators)
      if (is_op(text)) found = &op;
    if (found) {
      advance();
      node->rest.emplace_back(*found, parse_sum());
    } else if (skip_name("in")) {
      node->rest.emplace_back(CompareOp::kIn, parse_sum());
    } else if (is_name("not") && look_ahead().type == TokenType::kName && look_ahead().text == "in") {
      advance();
      advance();
      node->rest.emplace_back(CompareOp::kNotIn, parse_sum());
    } else {
      break;
    }
  }
  if (node->rest.empty()) return std::move(node->first);
  return node;
}

ExprPtr Parser::parse_sum() {
  auto node = std::make_unique<ArithmeticExpr>(line());
  node->first = parse_concat();
  while (is_op("+") || is_op("-")) {
    const BinaryOp op = is_op("+") ? BinaryOp::kAdd : BinaryOp::kSubtract;
    advance();
    node->rest.emplace_back(op, parse_concat());
  }
  if (node->rest.empty()) return std::move(node->first);
  return node;
}

ExprPtr Parser::parse_concat() {
  ExprPtr first = parse_product();
  if (!is_op("~")) return first;
  auto node = std::make_unique<ItemsExpr>(ExprKind::kConcat, line());
  node->items.push_back(std::move(first));
  while (skip_op("~")) node->items.push_back(parse_product());
  return node;
}

ExprPtr Parser::parse_product() {
  static constexpr std::pair<std::string_view, BinaryOp> kOperators[] = {
      {"*", BinaryOp::kMultiply}, {"/", BinaryOp::kDivide}, {"//", BinaryOp::kFloorDivide}, {"%", BinaryOp::kModulo}};
  auto node = std::make_unique<ArithmeticExpr>(line());
  node->first = parse_power();
  while (true) {
    const BinaryOp* found = nullptr;
    for (const auto& [text, op] : kOperators)
      if (is_op(text)) found = &op;
    if (!found) break;
    advance();
    node->rest.emplace_back(*found, parse_power());
  }
  if (node->rest.empty()) return std::move(node->first);
  return node;
}

// Unlike Python, Jinja evaluates 2 ** 3 ** 2 from the left.
ExprPtr Parser::parse_power() {
  auto node = std::make_unique<ArithmeticExpr>(line());
  node->first = parse_unary(true);
  while (skip_op("**")) node->rest.emplace_back(BinaryOp::kPower, parse_unary(true));
  if (node->rest.empty()) return std::move(node->first);
  return node;
}

// A filter binds looser than a sign: -1|abs is (-1)|abs.
ExprPtr Parser::parse_unary(bool with_filter) {
  const int at_line = line();
  ExprPtr node;
  if (is_op("-") || is_op("+")) {
    const Nested nested(*this);
    const ExprKind kind = is_op("-") ? ExprKind::kNegate : ExprKind::kPlus;
    advance();
    node = make_unary(kind, at_line, parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filter_chain(std::move(node)) : std::move(node);
}

ExprPtr Parser::parse_primary(bool with_namespace) {
  switch (current().type) {
    case TokenType::kName:
      return parse_name(with_namespace);
    case TokenType::kString:
      return parse_string();
    case TokenType::kInteger:
    case TokenType::kFloat:
      return parse_number();
    default:
      break;
  }
  if (skip_op("(")) {
    ExprPtr node = parse_tuple(Tuple::kParenthesised);
    expect_op(")");
    return node;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  error("unexpected " + describe_current());
}

ExprPtr Parser::parse_name(bool with_namespace) {
  const int at_line = line();
  const std::string name = expect_identifier();
  if (name == "true" || name == "True") return std::make_unique<ConstExpr>(at_line, Value(true));
  if (name == "false" || name == "False") return std::make_unique<ConstExpr>(at_line, Value(false));
  if (name == "none" || name == "None") return std::make_unique<ConstExpr>(at_line, Value());
  for (MacroStmt* macro : open_macros_) {
    macro->uses_varargs |= name == "varargs";
    macro->uses_kwargs |= name == "kwargs";
    macro->uses_caller |= name == "caller";
  }
  auto node = std::make_unique<NameExpr>(at_line, symbol(name));
  if (!with_namespace || !skip_op(".")) return node;
  auto target = std::make_unique<AttributeExpr>(ExprKind::kNamespaceTarget, at_line);
  target->object = std::move(node);
  target->name = expect_identifier();
  return target;
}

ExprPtr Parser::parse_string() {
  const int at_line = line();
  std::string bytes;
  for (; current().type == TokenType::kString; advance()) bytes += current().text;
  return make_text(at_line, std::move(bytes));
}

ExprPtr Parser::parse_number() {
  const int at_line = line();
  const Token token = current();
  advance();
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  if (token.type == TokenType::kFloat) {
    double value = 0;
    const auto [stop, status] = std::from_chars(begin, end, value);
    // Out of range: Python reads 1e400 as inf and 1e-400 as 0. A '-' after the 'e' tells which.
    if (status == std::errc::result_out_of_range)
      value = token.text.find("e-") != std::string::npos || token.text.find("E-") != std::string::npos
                  ? 0.0
                  : std::numeric_limits<double>::infinity();
    return std::make_unique<ConstExpr>(at_line, Value(value));
  }
  const char prefix = token.text.size() > 2 ? static_cast<char>(token.text[1] | 0x20) : '\0';
  const int base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
  Int value = 0;
  for (const char* c = begin + (base == 10 ? 0 : 2); c != end; ++c) {
    const int digit = *c <= '9' ? *c - '0' : (*c | 0x20) - 'a' + 10;
    if (__builtin_mul_overflow(value, Int{base}, &value) || __builtin_add_overflow(value, Int{digit}, &value))
      error_at(at_line, "integer literal is too large");
  }
  return std::make_unique<ConstExpr>(at_line, Value(value));
}

ExprPtr Parser::parse_list() {
  auto node = std::make_unique<ItemsExpr>(ExprKind::kList, line());
  expect_op("[");
  while (!is_op("]")) {
    if (!node->items.empty()) expect_op(",");
    if (is_op("]")) break;
    node->items.push_back(parse_expression());
  }
  expect_op("]");
  return node;
}

ExprPtr Parser::parse_dict() {
  auto node = std::make_unique<DictExpr>(line());
  expect_op("{");
  while (!is_op("}")) {
    if (!node->entries.empty()) expect_op(",");
    if (is_op("}")) break;
    ExprPtr key = parse_expression();
    expect_op(":");
    ExprPtr value = parse_expression();
    node->entries.emplace_back(std::move(key), std::move(value));
  }
  expect_op("}");
  return node;
}

bool Parser::at_tuple_end(std::string_view end_name) const {
  return current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd || is_op(")") ||
         (!end_name.empty() && is_name(end_name));
}

// One expression, or a tuple when there is a comma.
ExprPtr Parser::parse_tuple(Tuple mode, std::string_view end_name) {
  const Nested nested(*this);
  auto node = std::make_unique<ItemsExpr>(ExprKind::kTuple, line());
  bool is_tuple = false;
  while (true) {
    if (!node->items.empty()) expect_op(",");
    if (at_tuple_end(end_name)) break;
    if (mode == Tuple::kTargets || mode == Tuple::kNamespaceTargets)
      node->items.push_back(parse_primary(mode == Tuple::kNamespaceTargets));
    else
      node->items.push_back(mode == Tuple::kNoConditional ? parse_or() : parse_expression());
    if (!is_op(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return node;
  if (!node->items.empty()) return std::move(node->items.front());
  if (mode != Tuple::kParenthesised) error("expected an expression, found " + describe_current());
  return node;
}

ExprPtr Parser::parse_postfix(ExprPtr node) {
  for (size_t links = 1;; check_chain(links++)) {
    if (is_op("."))
      node = parse_attribute(std::move(node));
    else if (is_op("["))
      node = parse_subscript(std::move(node));
    else if (is_op("("))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

ExprPtr Parser::parse_filter_chain(ExprPtr node) {
  for (size_t links = 1;; check_chain(links++)) {
    if (is_op("|"))
      node = parse_filters(std::move(node), false);
    else if (is_name("is"))
      node = parse_test(std::move(node));
    else if (is_op("("))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

ExprPtr Parser::parse_attribute(ExprPtr object) {
  const int at_line = line();
  expect_op(".");
  if (current().type == TokenType::kInteger) {
    auto node = std::make_unique<ItemExpr>(at_line);
    node->object = std::move(object);
    node->index = parse_number();
    return node;
  }
  auto node = std::make_unique<AttributeExpr>(ExprKind::kAttribute, at_line);
  node->object = std::move(object);
  node->name = expect_identifier();
  return node;
}

ExprPtr Parser::parse_subscript(ExprPtr object) {
  auto node = std::make_unique<ItemExpr>(line());
  expect_op("[");
  std::vector<ExprPtr> indices;
  while (!is_op("]")) {
    if (!indices.empty()) expect_op(",");
    indices.push_back(parse_slice_or_index());
  }
  expect_op("]");
  node->object = std::move(object);
  if (indices.size() == 1) {
    node->index = std::move(indices.front());
  } else {
    auto tuple = std::make_unique<ItemsExpr>(ExprKind::kTuple, node->line);
    tuple->items = std::move(indices);
    node->index = std::move(tuple);
  }
  return node;
}

ExprPtr Parser::parse_slice_or_index() {
  auto slice = std::make_unique<SliceExpr>(line());
  if (!is_op(":")) {
    slice->start = parse_expression();
    if (!is_op(":")) return std::move(slice->start);
  }
  expect_op(":");
  if (!is_op(":") && !is_op("]") && !is_op(",")) slice->stop = parse_expression();
  if (skip_op(":") && !is_op("]") && !is_op(",")) slice->step = parse_expression();
  return slice;
}

ExprPtr Parser::parse_call(ExprPtr callee) {
  auto node = std::make_unique<CallExpr>(line());
  node->callee = std::move(callee);
  node->arguments = parse_arguments();
  return node;
}

CallArguments Parser::parse_arguments() {
  CallArguments arguments;
  expect_op("(");
  for (bool first = true; !is_op(")"); first = false) {
    if (!first) expect_op(",");
    if (is_op(")")) break;
    parse_argument(arguments);
  }
  expect_op(")");
  return arguments;
}

void Parser::parse_argument(CallArguments& arguments) {
  const bool is_keyword =
      current().type == TokenType::kName && look_ahead().type == TokenType::kOperator && look_ahead().text == "=";
  if (arguments.double_star || (arguments.star && !is_keyword && !is_op("**")))
    error("invalid syntax for function call expression");
  if (skip_op("*")) {
    arguments.star = parse_expression();
  } else if (skip_op("**")) {
    arguments.double_star = parse_expression();
  } else if (is_keyword) {
    std::string name = expect_identifier();
    expect_op("=");
    arguments.named.emplace_back(std::move(name), parse_expression());
  } else {
    if (!arguments.named.empty()) error("positional argument follows keyword argument");
    arguments.positional.push_back(parse_expression());
  }
}

std::string Parser::parse_dotted_name() {
  std::string name = expect_identifier();
  while (skip_op(".")) name += "." + expect_identifier();
  return name;
}

// input | name(args) | ... ; name_first when the bar before the first name is absent (filter blocks).
ExprPtr Parser::parse_filters(ExprPtr input, bool name_first) {
  for (size_t links = 1; name_first || is_op("|"); check_chain(links++)) {
    if (!name_first) advance();
    name_first = false;
    auto node = std::make_unique<FilterExpr>(line());
    node->input = std::move(input);
    node->name = parse_dotted_name();
    node->filter = find_filter(node->name);
    if (!node->filter && !soft_) unknown_.push_back({node->line, "no filter named '" + printable(node->name) + "'"});
    if (is_op("(")) node->arguments = parse_arguments();
    input = std::move(node);
  }
  return input;
}

ExprPtr Parser::parse_test(ExprPtr input) {
  auto node = std::make_unique<TestExpr>(line());
  expect_name("is");
  const bool negated = skip_name("not");
  node->input = std::move(input);
  node->name = parse_dotted_name();
  node->test = find_test(node->name);
  if (!node->test && !soft_) unknown_.push_back({node->line, "no test named '" + printable(node->name) + "'"});
  if (is_op("(")) {
    node->arguments = parse_arguments();
  } else if ((current().type == TokenType::kName && !is_name("else") && !is_name("or") && !is_name("and")) ||
             current().type == TokenType::kString || current().type == TokenType::kInteger ||
             current().type == TokenType::kFloat || is_op("[") || is_op("{")) {
    if (is_name("is")) error("tests cannot be chained with 'is'");
    node->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  const int at_line = node->line;
  if (!negated) return node;
  return make_unary(ExprKind::kNot, at_line, std::move(node));
}

}  // namespace fettle::text::jinja
