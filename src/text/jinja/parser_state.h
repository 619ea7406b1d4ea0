#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace fettle::text::jinja {

// Recursive descent over the tokens, by the grammar of Jinja2 3.1. Statements live in parser_statements.cpp,
// expressions in parser_expressions.cpp.
class Parser {
 public:
  Parser(std::vector<Token> tokens, Program* program) : tokens_(std::move(tokens)), program_(program) {}
  void parse_program();

 private:
  using EndTags = std::initializer_list<std::string_view>;

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& look_ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }
  void advance() {
    if (current().type != TokenType::kEnd) ++at_;
  }
  bool is_op(std::string_view op) const { return current().type == TokenType::kOperator && current().text == op; }
  bool is_name(std::string_view name) const { return current().type == TokenType::kName && current().text == name; }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  void expect(TokenType type);
  std::string expect_identifier();
  Symbol symbol(const std::string& name);
  [[noreturn]] void error(const std::string& message) const;
  [[noreturn]] void error_at(int line, const std::string& message) const;
  std::string describe_current() const;

  // Statements.
  Block parse_block(EndTags end_tags, std::string_view opened_by, int opened_line);
  Block parse_body(EndTags end_tags, std::string_view opened_by, int opened_line);  // from the end of the opening tag
  StmtPtr parse_statement();
  StmtPtr parse_if();
  StmtPtr parse_for();
  StmtPtr parse_set();
  StmtPtr parse_macro();
  StmtPtr parse_call_block();
  StmtPtr parse_filter_block();
  StmtPtr parse_with();
  StmtPtr parse_scope(std::string_view end_tag);
  StmtPtr parse_named_block();
  StmtPtr parse_autoescape();
  StmtPtr parse_loop_control(StmtKind kind);
  Block parse_hard_body(EndTags end_tags, std::string_view opened_by, int opened_line);  // not soft
  void parse_print(Block& body);
  void parse_signature(MacroStmt& macro);
  void finish_macro(MacroStmt& macro, std::string_view end_tag);
  ExprPtr parse_target(bool with_namespace, bool until_in);

  // Expressions.
  ExprPtr parse_expression();
  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_primary(bool with_namespace = false);
  ExprPtr parse_name(bool with_namespace);
  ExprPtr parse_string();
  ExprPtr parse_number();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr node);
  ExprPtr parse_filter_chain(ExprPtr node);
  ExprPtr parse_attribute(ExprPtr object);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_slice_or_index();
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_filters(ExprPtr input, bool name_first);
  ExprPtr parse_test(ExprPtr input);
  CallArguments parse_arguments();
  void parse_argument(CallArguments& arguments);
  std::string parse_dotted_name();

  enum class Tuple { kPlain, kNoConditional, kTargets, kNamespaceTargets, kParenthesised };
  ExprPtr parse_tuple(Tuple mode, std::string_view end_name = {});
  bool at_tuple_end(std::string_view end_name) const;

  // Counts nesting while it lives.
  class Nested {
   public:
    explicit Nested(Parser& parser);
    ~Nested() { --parser_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    Parser& parser_;
  };
  void check_chain(size_t length) const;  // postfix and filter chains nest as well

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Program* program_;
  std::unordered_map<std::string, Symbol> symbols_;
  int depth_ = 0;
  int loop_depth_ = 0;  // loops that a break here could leave
  int for_depth_ = 0;   // for statements around, seen through macros
  // An unknown filter or test is an error of the template, except directly inside an if or a conditional expression,
  // where it is one only when it runs (Jinja calls these frames soft).
  bool soft_ = false;
  struct Unknown {
    int line;
    std::string message;
  };
  std::vector<Unknown> unknown_;
  std::vector<MacroStmt*> open_macros_;
};

}  // namespace fettle::text::jinja
