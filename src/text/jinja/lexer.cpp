#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja/characters.h"

namespace fettle::text::jinja {
namespace {

constexpr std::array<std::string_view, 6> kLongOperators = {"//", "**", "==", "!=", ">=", "<="};
constexpr std::string_view kShortOperators = "+-/*%~[](){}=><.:|,;";

bool is_digit_of(char c, int base) {
  if (base == 16) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  return c >= '0' && c < '0' + base;
}

int hex_value(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

// Line ends become "\n" and one final newline is dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : source_(normalize_newlines(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) data_and_tag();
    emit(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& message) const { template_syntax_error(name_, line_, message); }
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool looking_at(std::string_view text) const { return rest().starts_with(text); }
  void emit(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }
  void advance_to(size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    at_ = end;
  }
  void skip_spaces() { advance_to(skip_space(source_, at_)); }
  void skip_one_newline() {
    if (at_ < source_.size() && source_[at_] == '\n') advance_to(at_ + 1);
  }

  // Text from at_ up to a tag at `tag`, whose sign (-, + or 0) and kind decide what is stripped from its end.
  void emit_data(size_t tag, char sign, bool is_variable) {
    std::string_view data = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') {
      data = data.substr(0, trimmed_end(data));
    } else if (sign != '+' && !is_variable) {
      const size_t line_start = data.rfind('\n') + 1;  // npos + 1 == 0
      const bool starts_line = line_start > 0 || at_ == 0 || source_[at_ - 1] == '\n';
      if (starts_line && skip_space(data, line_start) == data.size()) data = data.substr(0, line_start);
    }
    if (!data.empty()) emit(TokenType::kData, std::string(data));
    advance_to(tag);
  }

  size_t next_tag() const {
    for (size_t p = source_.find('{', at_); p != std::string::npos; p = source_.find('{', p + 1)) {
      const char second = p + 1 < source_.size() ? source_[p + 1] : '\0';
      if (second == '%' || second == '{' || second == '#') return p;
    }
    return std::string::npos;
  }

  char sign_at(size_t p) const {
    return p < source_.size() && (source_[p] == '-' || source_[p] == '+') ? source_[p] : '\0';
  }

  void data_and_tag() {
    const size_t tag = next_tag();
    if (tag == std::string::npos) {
      emit(TokenType::kData, source_.substr(at_));
      advance_to(source_.size());
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    emit_data(tag, sign, kind == '{');
    if (kind == '%' && raw_block()) return;
    advance_to(tag + (sign ? 3 : 2));
    if (kind == '#') return comment();
    emit(kind == '%' ? TokenType::kBlockBegin : TokenType::kVariableBegin, "");
    for (skip_spaces(); !(kind == '%' ? block_end() : variable_end()); skip_spaces()) tag_token();
  }

  // Matches "{%[-+]? keyword" at p and returns the offset after the keyword and its spaces, or npos.
  size_t match_tag_keyword(size_t p, std::string_view keyword) const {
    p = skip_space(source_, p + (sign_at(p + 2) ? 3 : 2));
    if (!std::string_view(source_).substr(p).starts_with(keyword)) return std::string::npos;
    return skip_space(source_, p + keyword.size());
  }

  // Consumes a whole {% raw %} ... {% endraw %} at at_, if there is one.
  bool raw_block() {
    const size_t end = match_tag_keyword(at_, "raw");
    if (end == std::string::npos) return false;
    const std::string_view after = std::string_view(source_).substr(end);
    if (!after.starts_with("%}") && !after.starts_with("-%}")) return false;
    const bool strip = after.starts_with('-');
    advance_to(end + (strip ? 3 : 2));
    if (strip) skip_spaces();
    for (size_t p = source_.find("{%", at_); p != std::string::npos; p = source_.find("{%", p + 1)) {
      const size_t close = match_tag_keyword(p, "endraw");
      if (close == std::string::npos) continue;
      const char sign = sign_at(close);
      if (!std::string_view(source_).substr(close + (sign ? 1 : 0)).starts_with("%}")) continue;
      emit_data(p, sign_at(p + 2), false);
      advance_to(close);
      block_end();
      tokens_.pop_back();
      return true;
    }
    if (at_ == source_.size()) return true;
    error("missing end of raw directive");
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos && at_ == source_.size()) return;  // Jinja overlooks a tag opened by the last bytes
    if (end == std::string::npos) error("missing end of comment tag");
    const char sign = end > at_ ? sign_at(end - 1) : '\0';
    advance_to(end + 2);
    if (sign == '-') skip_spaces();
    if (sign == '\0') skip_one_newline();
  }

  bool block_end() {
    if (!balance_.empty()) return false;
    if (looking_at("%}")) {
      emit(TokenType::kBlockEnd, "");
      advance_to(at_ + 2);
      skip_one_newline();
    } else if (looking_at("-%}")) {
      emit(TokenType::kBlockEnd, "");
      advance_to(at_ + 3);
      skip_spaces();
    } else if (looking_at("+%}")) {
      emit(TokenType::kBlockEnd, "");
      advance_to(at_ + 3);
    } else {
      return false;
    }
    return true;
  }

  bool variable_end() {
    if (!balance_.empty()) return false;
    const bool strip = looking_at("-}}");
    if (!strip && !looking_at("}}")) return false;
    emit(TokenType::kVariableEnd, "");
    advance_to(at_ + (strip ? 3 : 2));
    if (strip) skip_spaces();
    return true;
  }

  void tag_token() {
    if (at_ >= source_.size()) error("unexpected end of template inside a tag");
    const char c = source_[at_];
    if (c >= '0' && c <= '9') return number();
    if (c == '\'' || c == '"') return string_literal(c);
    if (is_identifier_part(code_point_at(source_, at_))) return identifier();
    op();
  }

  void identifier() {
    size_t end = at_;
    while (end < source_.size() && is_identifier_part(code_point_at(source_, end))) end = next_byte(source_, end);
    if (!is_identifier_start(code_point_at(source_, at_))) error("invalid character in identifier");
    emit(TokenType::kName, source_.substr(at_, end - at_));
    advance_to(end);
  }

  // End of digits at p with single underscores between them; p itself when there is no digit.
  size_t digits_end(size_t p, int base) const {
    size_t end = p;
    while (end < source_.size() && is_digit_of(source_[end], base)) {
      ++end;
      if (end + 1 < source_.size() && source_[end] == '_' && is_digit_of(source_[end + 1], base)) ++end;
    }
    return end;
  }

  size_t float_end(size_t integer_end) const {
    size_t end = integer_end;
    if (end < source_.size() && source_[end] == '.') {
      const size_t fraction = digits_end(end + 1, 10);
      if (fraction > end + 1) end = fraction;
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t exponent = end + 1 + (sign_at(end + 1) ? 1 : 0);
      const size_t exponent_end = digits_end(exponent, 10);
      if (exponent_end > exponent) end = exponent_end;
    }
    return end;
  }

  void number() {
    const size_t plain_end = digits_end(at_, 10);
    const size_t real_end = at_ > 0 && source_[at_ - 1] == '.' ? plain_end : float_end(plain_end);
    if (real_end > plain_end) return emit_number(TokenType::kFloat, real_end);
    size_t end = plain_end;
    if (source_[at_] == '0') {
      const char prefix = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
      const int base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
      const size_t prefixed = base ? digits_end(at_ + 2, base) : 0;
      if (base && prefixed > at_ + 2) {
        end = prefixed;
      } else {  // only zeros may follow a leading zero
        end = at_ + 1;
        while (end < plain_end && (source_[end] == '0' || source_[end] == '_')) ++end;
      }
    }
    emit_number(TokenType::kInteger, end);
  }

  void emit_number(TokenType type, size_t end) {
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    emit(type, std::move(text));
    advance_to(end);
  }

  void string_literal(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) error("unterminated string literal");
    emit(TokenType::kString, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    advance_to(end + 1);
  }

  std::string unescape(std::string_view raw) const {
    std::string out;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\')
        out += raw[i];
      else
        i = unescape_one(raw, i + 1, out);
    }
    return out;
  }

  // Appends the value of the escape whose letter is raw[i]; returns the last offset used. Unknown escapes keep the
  // backslash, as in Python.
  size_t unescape_one(std::string_view raw, size_t i, std::string& out) const {
    static constexpr std::string_view kLetters = "\\'\"abfnrtv";
    static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    const char c = raw[i];
    if (c == '\n') return i;
    if (const size_t known = kLetters.find(c); known != std::string_view::npos) {
      out += kMeanings[known];
      return i;
    }
    if (is_digit_of(c, 8)) {
      char32_t value = 0;
      size_t end = i;
      for (; end < raw.size() && end < i + 3 && is_digit_of(raw[end], 8); ++end)
        value = value * 8 + static_cast<char32_t>(raw[end] - '0');
      utf8::append(out, value);
      return end - 1;
    }
    const size_t hex_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (hex_digits) return unescape_hex(raw, i, hex_digits, out);
    if (c == 'N') error("\\N{...} escapes are not supported");
    out += '\\';
    if (static_cast<unsigned char>(c) >= 0x80) return append_escaped(raw, i, out);
    out += c;
    return i;
  }

  // Jinja turns characters beyond ASCII into escapes before it reads escapes, so that a backslash in front of one
  // leaves the text of its escape.
  static size_t append_escaped(std::string_view raw, size_t i, std::string& out) {
    const auto code = static_cast<uint32_t>(code_point_at(raw, i));
    out += code < 0x100 ? fmt::format("x{:02x}", code)
                        : (code < 0x10000 ? fmt::format("u{:04x}", code) : fmt::format("U{:08x}", code));
    return next_byte(raw, i) - 1;
  }

  size_t unescape_hex(std::string_view raw, size_t i, size_t count, std::string& out) const {
    char32_t value = 0;
    for (size_t d = 1; d <= count; ++d) {
      if (i + d >= raw.size() || !is_digit_of(raw[i + d], 16)) error("truncated \\x or \\u escape");
      value = value * 16 + static_cast<char32_t>(hex_value(raw[i + d]));
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) error("escape is not a Unicode character");
    utf8::append(out, value);
    return i + count;
  }

  void op() {
    std::string text(1, source_[at_]);
    for (const std::string_view candidate : kLongOperators)
      if (looking_at(candidate)) text = candidate;
    if (text.size() == 1 && kShortOperators.find(text[0]) == std::string_view::npos)
      error("unexpected character '" + printable(source_.substr(at_, next_byte(source_, at_) - at_)) + "'");
    track_balance(text[0]);
    emit(TokenType::kOperator, text);
    advance_to(at_ + text.size());
  }

  void track_balance(char c) {
    if (c == '(') balance_ += ')';
    if (c == '[') balance_ += ']';
    if (c == '{') balance_ += '}';
    if (c != ')' && c != ']' && c != '}') return;
    if (balance_.empty()) error(std::string("unexpected '") + c + "'");
    if (balance_.back() != c) error(std::string("unexpected '") + c + "', expected '" + balance_.back() + "'");
    balance_.pop_back();
  }

  const std::string source_;
  const std::string& name_;
  size_t at_ = 0;
  int line_ = 1;
  std::string balance_;  // closing brackets still to come
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view source, const std::string& name) {
  return Lexer(source, name).run();
}

void template_syntax_error(const std::string& name, int line, const std::string& message) {
  fail(ErrorCode::kInput, "{}: line {}: {}", name, line, message);
}

}  // namespace fettle::text::jinja
