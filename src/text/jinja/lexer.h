#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fettle::text::jinja {

enum class TokenType {
  kData,           // text between tags
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kName,
  kString,   // text is the unescaped value
  kInteger,  // text without underscores, prefix kept
  kFloat,
  kOperator,  // text is the operator
  kEnd,
};

struct Token {
  TokenType type;
  std::string text;
  int line;
};

// Splits a template into tokens by the rules of Jinja2 3.1 with trim_blocks and lstrip_blocks on and
// keep_trailing_newline off: line ends become \n, one final newline is dropped, the newline after a block or comment
// tag and the blanks before one at the start of a line disappear, `-` and `+` override. Comments and raw tags are gone
// from the result. Throws kInput naming `name` and the line for text that is not a template.
std::vector<Token> tokenize_template(std::string_view source, const std::string& name);

// kInput "name: line N: message".
[[noreturn]] void template_syntax_error(const std::string& name, int line, const std::string& message);

}  // namespace fettle::text::jinja
