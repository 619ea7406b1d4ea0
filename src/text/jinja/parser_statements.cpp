#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja/parser.h"
#include "text/jinja/parser_state.h"

namespace fettle::text::jinja {
namespace {

constexpr std::string_view kLoopTag = "for";

bool is_end_tag(const std::string& name) { return name.starts_with("end") || name == "else" || name == "elif"; }

// Names, namespace attributes and tuples of these.
bool can_assign(const Expr& target) {
  if (target.kind == ExprKind::kName || target.kind == ExprKind::kNamespaceTarget) return true;
  if (target.kind != ExprKind::kTuple) return false;
  const auto& items = static_cast<const ItemsExpr&>(target).items;
  return std::all_of(items.begin(), items.end(), [](const ExprPtr& item) { return can_assign(*item); });
}

bool assigns_name(const Expr& target, std::string_view name, const std::vector<std::string>& symbols) {
  if (target.kind == ExprKind::kName) return symbols[static_cast<const NameExpr&>(target).symbol] == name;
  if (target.kind != ExprKind::kTuple) return false;
  const auto& items = static_cast<const ItemsExpr&>(target).items;
  return std::any_of(items.begin(), items.end(),
                     [&](const ExprPtr& item) { return assigns_name(*item, name, symbols); });
}

}  // namespace

std::shared_ptr<const Program> parse_template(std::string_view source, const std::string& name) {
  if (source.size() > kMaxSourceBytes)
    fail(ErrorCode::kResource, "{}: template of {} bytes, the limit is {}", name, source.size(), kMaxSourceBytes);
  if (const size_t bad = utf8::first_invalid(source); bad != std::string_view::npos)
    fail(ErrorCode::kInput, "{}: template is not UTF-8: ill-formed byte at offset {}", name, bad);
  auto program = std::make_shared<Program>();
  program->name = name;
  Parser(tokenize_template(source, name), program.get()).parse_program();
  return program;
}

Parser::Nested::Nested(Parser& parser) : parser_(parser) {
  if (++parser_.depth_ > kMaxNesting) {
    --parser_.depth_;
    fail(ErrorCode::kResource, "{}: line {}: template nests deeper than {}", parser_.program_->name, parser_.line(),
         kMaxNesting);
  }
}

void Parser::parse_program() {
  program_->body = parse_block({}, {}, 1);
  if (!unknown_.empty()) error_at(unknown_.front().line, unknown_.front().message);
}

// Statements until one of end_tags, which is left as the current name; until the end of the template when there are
// none. Starts after a tag's end.
Block Parser::parse_block(EndTags end_tags, std::string_view opened_by, int opened_line) {
  Block body;
  while (current().type != TokenType::kEnd) {
    const int at_line = line();
    if (current().type == TokenType::kData) {
      body.push_back(std::make_unique<TextStmt>(at_line, current().text));
      advance();
    } else if (current().type == TokenType::kVariableBegin) {
      advance();
      body.push_back(std::make_unique<PrintStmt>(at_line, parse_tuple(Tuple::kPlain)));
      expect(TokenType::kVariableEnd);
    } else {
      advance();  // kBlockBegin
      if (current().type == TokenType::kName &&
          std::find(end_tags.begin(), end_tags.end(), current().text) != end_tags.end())
        return body;
      if (is_name("print"))
        parse_print(body);
      else
        body.push_back(parse_statement());
      expect(TokenType::kBlockEnd);
    }
  }
  if (end_tags.size() > 0)
    error_at(opened_line, fmt::format("unexpected end of template: the tag '{}' is never closed", opened_by));
  return body;
}

Block Parser::parse_body(EndTags end_tags, std::string_view opened_by, int opened_line) {
  skip_op(":");  // Jinja accepts Python's colon
  expect(TokenType::kBlockEnd);
  return parse_block(end_tags, opened_by, opened_line);
}

Block Parser::parse_hard_body(EndTags end_tags, std::string_view opened_by, int opened_line) {
  const bool was_soft = std::exchange(soft_, false);
  Block body = parse_body(end_tags, opened_by, opened_line);
  soft_ = was_soft;
  return body;
}

StmtPtr Parser::parse_statement() {
  const Nested nested(*this);
  if (current().type != TokenType::kName) error("tag name expected, found " + describe_current());
  const std::string tag = current().text;
  if (tag == "if") return parse_if();
  if (tag == kLoopTag) return parse_for();
  if (tag == "set") return parse_set();
  if (tag == "macro") return parse_macro();
  if (tag == "call") return parse_call_block();
  if (tag == "filter") return parse_filter_block();
  if (tag == "with") return parse_with();
  if (tag == "generation") return parse_scope("endgeneration");
  if (tag == "block") return parse_named_block();
  if (tag == "autoescape") return parse_autoescape();
  if (tag == "break") return parse_loop_control(StmtKind::kBreak);
  if (tag == "continue") return parse_loop_control(StmtKind::kContinue);
  if (tag == "include" || tag == "import" || tag == "from" || tag == "extends")
    error("a chat template cannot read other templates: '" + tag + "' is not available");
  if (is_end_tag(tag)) error("unexpected tag '" + tag + "'");
  error("unknown tag '" + printable(tag) + "'");
}

StmtPtr Parser::parse_if() {
  auto stmt = std::make_unique<IfStmt>(line());
  const bool was_soft = std::exchange(soft_, true);
  advance();
  while (true) {
    ExprPtr test = parse_tuple(Tuple::kNoConditional);
    Block body = parse_body({"elif", "else", "endif"}, "if", stmt->line);
    stmt->branches.emplace_back(std::move(test), std::move(body));
    if (skip_name("elif")) continue;
    if (skip_name("else")) stmt->otherwise = parse_body({"endif"}, "if", stmt->line);
    expect_name("endif");
    soft_ = was_soft;
    return stmt;
  }
}

StmtPtr Parser::parse_for() {
  auto stmt = std::make_unique<ForStmt>(line());
  advance();
  ++for_depth_;
  stmt->target = parse_target(false, true);
  expect_name("in");
  stmt->iterable = parse_tuple(Tuple::kNoConditional, "recursive");
  if (skip_name("if")) stmt->condition = parse_expression();
  stmt->recursive = skip_name("recursive");
  ++loop_depth_;
  stmt->body = parse_hard_body({"endfor", "else"}, kLoopTag, stmt->line);
  --loop_depth_;
  if (skip_name("else")) stmt->otherwise = parse_hard_body({"endfor"}, kLoopTag, stmt->line);
  expect_name("endfor");
  --for_depth_;
  return stmt;
}

StmtPtr Parser::parse_set() {
  const int at_line = line();
  advance();
  ExprPtr target = parse_target(true, false);
  if (skip_op("=")) {
    auto stmt = std::make_unique<SetStmt>(at_line);
    stmt->target = std::move(target);
    stmt->value = parse_tuple(Tuple::kPlain);
    return stmt;
  }
  auto stmt = std::make_unique<SetBlockStmt>(at_line);
  stmt->target = std::move(target);
  stmt->filter = parse_filters(nullptr, false);
  stmt->body = parse_hard_body({"endset"}, "set", at_line);
  expect_name("endset");
  return stmt;
}

StmtPtr Parser::parse_macro() {
  auto stmt = std::make_unique<MacroStmt>(line());
  advance();
  stmt->name = expect_identifier();
  stmt->symbol = symbol(stmt->name);
  parse_signature(*stmt);
  finish_macro(*stmt, "endmacro");
  return stmt;
}

void Parser::parse_signature(MacroStmt& macro) {
  open_macros_.push_back(&macro);  // defaults are part of the macro
  expect_op("(");
  while (!is_op(")")) {
    if (!macro.parameters.empty()) expect_op(",");
    const std::string name = expect_identifier();
    macro.parameters.emplace_back(symbol(name), name);
    if (skip_op("="))
      macro.defaults.push_back(parse_expression());
    else if (!macro.defaults.empty())
      error("non-default argument follows default argument");
  }
  expect_op(")");
  open_macros_.pop_back();
}

void Parser::finish_macro(MacroStmt& macro, std::string_view end_tag) {
  const int outer_loops = std::exchange(loop_depth_, 0);  // break does not leave a macro
  open_macros_.push_back(&macro);
  macro.body = parse_hard_body({end_tag}, end_tag.substr(3), macro.line);
  open_macros_.pop_back();
  loop_depth_ = outer_loops;
  expect_name(end_tag);
}

StmtPtr Parser::parse_call_block() {
  auto stmt = std::make_unique<CallBlockStmt>(line());
  advance();
  stmt->caller = std::make_unique<MacroStmt>(stmt->line);
  stmt->caller->name = "caller";
  if (is_op("(")) parse_signature(*stmt->caller);
  stmt->call = parse_expression();
  if (stmt->call->kind != ExprKind::kCall) error_at(stmt->line, "expected a call after 'call'");
  finish_macro(*stmt->caller, "endcall");
  return stmt;
}

StmtPtr Parser::parse_filter_block() {
  auto stmt = std::make_unique<FilterBlockStmt>(line());
  advance();
  stmt->filter = parse_filters(nullptr, true);
  stmt->body = parse_hard_body({"endfilter"}, "filter", stmt->line);
  expect_name("endfilter");
  return stmt;
}

StmtPtr Parser::parse_with() {
  auto stmt = std::make_unique<ScopeStmt>(line());
  advance();
  while (current().type != TokenType::kBlockEnd) {
    if (!stmt->assignments.empty()) expect_op(",");
    ExprPtr target = parse_target(false, false);
    expect_op("=");
    ExprPtr value = parse_expression();
    stmt->assignments.emplace_back(std::move(target), std::move(value));
  }
  stmt->body = parse_hard_body({"endwith"}, "with", stmt->line);
  expect_name("endwith");
  return stmt;
}

// The generation tag marks the assistant's turn for training; when rendering it is a scope like a call block.
StmtPtr Parser::parse_scope(std::string_view end_tag) {
  auto stmt = std::make_unique<ScopeStmt>(line());
  advance();
  const int outer_loops = std::exchange(loop_depth_, 0);
  stmt->body = parse_hard_body({end_tag}, end_tag.substr(3), stmt->line);
  loop_depth_ = outer_loops;
  expect_name(end_tag);
  return stmt;
}

// Text is never escaped here, so that only {% autoescape false %} makes sense.
StmtPtr Parser::parse_autoescape() {
  auto stmt = std::make_unique<ScopeStmt>(line());
  advance();
  const ExprPtr mode = parse_expression();
  if (mode->kind != ExprKind::kConst || !static_cast<const ConstExpr&>(*mode).value.is_bool() ||
      static_cast<const ConstExpr&>(*mode).value.boolean())
    error_at(stmt->line, "automatic escaping is not available: only 'autoescape false' is accepted");
  stmt->body = parse_hard_body({"endautoescape"}, "autoescape", stmt->line);
  expect_name("endautoescape");
  return stmt;
}

// Without inheritance a block is printed where it stands.
StmtPtr Parser::parse_named_block() {
  auto stmt = std::make_unique<ScopeStmt>(line());
  advance();
  const std::string name = expect_identifier();
  skip_name("scoped");
  const int outer_loops = std::exchange(loop_depth_, 0);
  stmt->body = parse_hard_body({"endblock"}, "block", stmt->line);
  loop_depth_ = outer_loops;
  expect_name("endblock");
  skip_name(name);
  return stmt;
}

StmtPtr Parser::parse_loop_control(StmtKind kind) {
  auto stmt = std::make_unique<BreakStmt>(line(), kind);
  if (loop_depth_ == 0) error("'" + current().text + "' outside a loop");
  advance();
  return stmt;
}

void Parser::parse_print(Block& body) {
  advance();
  for (bool first = true; current().type != TokenType::kBlockEnd; first = false) {
    if (!first) expect_op(",");
    const int at_line = line();
    body.push_back(std::make_unique<PrintStmt>(at_line, parse_expression()));
  }
}

ExprPtr Parser::parse_target(bool with_namespace, bool until_in) {
  const int at_line = line();
  ExprPtr target = parse_tuple(with_namespace ? Tuple::kNamespaceTargets : Tuple::kTargets, until_in ? "in" : "");
  if (!can_assign(*target)) error_at(at_line, "can only assign to names, tuples of names and namespace attributes");
  if (for_depth_ > 0 && assigns_name(*target, "loop", program_->symbols))
    error_at(at_line, "can't assign to the special variable loop in a for loop");
  return target;
}

bool Parser::skip_op(std::string_view op) {
  const bool found = is_op(op);
  if (found) advance();
  return found;
}

bool Parser::skip_name(std::string_view name) {
  const bool found = is_name(name);
  if (found) advance();
  return found;
}

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) error(fmt::format("expected '{}', found {}", op, describe_current()));
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) error(fmt::format("expected '{}', found {}", name, describe_current()));
}

void Parser::expect(TokenType type) {
  if (current().type != type)
    error(fmt::format("expected the end of the {}, found {}", type == TokenType::kBlockEnd ? "tag" : "expression",
                      describe_current()));
  advance();
}

std::string Parser::expect_identifier() {
  if (current().type != TokenType::kName) error("expected a name, found " + describe_current());
  std::string name = current().text;
  advance();
  return name;
}

Symbol Parser::symbol(const std::string& name) {
  const auto [entry, added] = symbols_.try_emplace(name, static_cast<Symbol>(program_->symbols.size()));
  if (added) program_->symbols.push_back(name);
  return entry->second;
}

void Parser::error(const std::string& message) const { error_at(line(), message); }

void Parser::error_at(int at_line, const std::string& message) const {
  template_syntax_error(program_->name, at_line, message);
}

std::string Parser::describe_current() const {
  switch (current().type) {
    case TokenType::kData:
      return "text";
    case TokenType::kBlockBegin:
      return "'{%'";
    case TokenType::kBlockEnd:
      return "'%}'";
    case TokenType::kVariableBegin:
      return "'{{'";
    case TokenType::kVariableEnd:
      return "'}}'";
    case TokenType::kEnd:
      return "the end of the template";
    case TokenType::kString:
      return "string '" + printable(current().text, 40) + "'";
    default:
      return "'" + printable(current().text, 40) + "'";
  }
}

}  // namespace fettle::text::jinja
