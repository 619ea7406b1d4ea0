#include "text/jinja/number_format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "text/jinja/characters.h"
#include "text/jinja/printing.h"
#include "text/jinja/python_format.h"

namespace fettle::text::jinja {
namespace {

constexpr size_t kMaxWidth = size_t{1} << 24;  // beyond any text limit

bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

// Reads digits at `at`, capped at kMaxWidth so that it cannot overflow.
size_t read_number(std::string_view spec, size_t* at) {
  size_t value = 0;
  for (; *at < spec.size() && spec[*at] >= '0' && spec[*at] <= '9'; ++*at)
    value = std::min(kMaxWidth, value * 10 + static_cast<size_t>(spec[*at] - '0'));
  return value;
}

std::string group_digits(std::string_view digits, char separator, size_t every) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string digits_in_base(UnsignedInt value, unsigned base, bool upper) {
  std::string out;
  do {
    const auto digit = static_cast<unsigned>(value % base);
    out += static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
    value /= base;
  } while (value != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string sign_text(bool negative, char sign) {
  if (negative) return "-";
  return sign == '-' ? "" : std::string(1, sign);
}

// Sign and prefix, then zeros up to the width when they were asked for, then the digits.
std::string assemble(const std::string& head, std::string body, const FormatSpec& spec) {
  const bool zeros = spec.align == '=' || (spec.align == '\0' && spec.zero);
  const std::string fill = spec.zero && spec.align == '\0' ? "0" : spec.fill;
  if (zeros && head.size() + body.size() < spec.width) {
    std::string padding;
    for (size_t i = head.size() + body.size(); i < spec.width; ++i) padding += fill;
    return head + padding + body;
  }
  return head + body;
}

}  // namespace

FormatSpec parse_format_spec(Runtime& rt, std::string_view text) {
  FormatSpec spec;
  size_t at = 0;
  const size_t after_fill = text.empty() ? 0 : next_byte(text, 0);
  if (after_fill < text.size() && is_align(text[after_fill])) {
    spec.fill = text.substr(0, after_fill);
    spec.align = text[after_fill];
    at = after_fill + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[0];
    at = 1;
  }
  const auto next_is = [&](char c) { return at < text.size() && text[at] == c; };
  if (next_is('+') || next_is('-') || next_is(' ')) spec.sign = text[at++];
  if (next_is('#')) spec.alternate = true, ++at;
  if (next_is('0')) spec.zero = true, ++at;
  spec.width = read_number(text, &at);
  if (next_is(',') || next_is('_')) spec.grouping = text[at++];
  if (next_is('.')) {
    const size_t digits = ++at;
    const size_t precision = read_number(text, &at);
    if (at == digits) rt.error("format specifier misses its precision");
    if (precision > kMaxPrecision) rt.error("precision {} is too large", precision);
    spec.precision = static_cast<int>(precision);
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) rt.error("invalid format specifier '{}'", printable(text, 40));
  rt.check_text_size(spec.width);
  return spec;
}

std::string format_integer(Runtime& rt, Int value, const FormatSpec& spec) {
  if (spec.type != '\0' && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos)
    return format_float(rt, static_cast<double>(value), spec);
  unsigned base = 10;
  std::string prefix;
  switch (spec.type) {
    case 'b':
      base = 2, prefix = "0b";
      break;
    case 'o':
      base = 8, prefix = "0o";
      break;
    case 'x':
      base = 16, prefix = "0x";
      break;
    case 'X':
      base = 16, prefix = "0X";
      break;
    case '\0':
    case 'd':
    case 'n':
      break;
    default:
      rt.error("unknown format code '{}' for an integer", spec.type);
  }
  const auto magnitude = value < 0 ? -static_cast<UnsignedInt>(value) : static_cast<UnsignedInt>(value);
  std::string digits = digits_in_base(magnitude, base, spec.type == 'X');
  if (spec.precision > static_cast<int>(digits.size()))
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  if (spec.grouping) digits = group_digits(digits, spec.grouping, base == 10 ? 3 : 4);
  return assemble(sign_text(value < 0, spec.sign) + (spec.alternate ? prefix : ""), digits, spec);
}

std::string format_float(Runtime& rt, double value, const FormatSpec& spec) {
  const bool upper = spec.type == 'E' || spec.type == 'F' || spec.type == 'G';
  const bool percent = spec.type == '%';
  const double magnitude = std::abs(value) * (percent ? 100 : 1);
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  std::string body;
  if (!std::isfinite(value)) {
    body = std::isnan(value) ? "nan" : "inf";
  } else {
    switch (spec.type) {
      case 'e':
      case 'E':
        body = fmt::format("{:.{}e}", magnitude, precision);
        break;
      case 'f':
      case 'F':
      case '%':
        body = fmt::format("{:.{}f}", magnitude, precision);
        break;
      case 'g':
      case 'G':
      case 'n':
        body = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
        break;
      case '\0':
        if (spec.precision < 0) {
          body = float_repr(magnitude);
        } else {
          body = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
          if (body.find_first_of(".e") == std::string::npos) body += ".0";
        }
        break;
      default:
        rt.error("unknown format code '{}' for a float", spec.type);
    }
  }
  if (upper) body = to_upper(body);
  if (spec.grouping) {
    const size_t whole = std::min(body.find_first_of(".eE"), body.size());
    body = group_digits(std::string_view(body).substr(0, whole), spec.grouping, 3) + body.substr(whole);
  }
  if (percent) body += '%';
  return assemble(sign_text(std::signbit(value) && !std::isnan(value), spec.sign), body, spec);
}

MarkedText pad(Runtime& rt, const MarkedText& text, const FormatSpec& spec, char default_align) {
  const size_t size = code_points(text.bytes());
  if (size >= spec.width) return text;
  rt.check_text_size(text.size() + (spec.width - size) * spec.fill.size());
  const char align = spec.align == '\0' || spec.align == '=' ? default_align : spec.align;
  const size_t missing = spec.width - size;
  const size_t before = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  MarkedText out;
  for (size_t i = 0; i < before; ++i) out.append(spec.fill, false);
  out.append(text);
  for (size_t i = before; i < missing; ++i) out.append(spec.fill, false);
  out.set_markup(text.is_markup());
  return out;
}

MarkedText format_text(Runtime& rt, const MarkedText& text, const FormatSpec& spec) {
  if (spec.type != '\0' && spec.type != 's') rt.error("unknown format code '{}' for a string", spec.type);
  if (spec.grouping) rt.error("cannot specify '{}' with a string", spec.grouping);
  if (spec.align == '=') rt.error("'=' alignment is not allowed for a string");
  const bool cut = spec.precision >= 0;
  return pad(rt, cut ? text.slice(0, byte_offset(text.bytes(), static_cast<size_t>(spec.precision))) : text, spec, '<');
}

std::optional<Int> parse_integer(std::string_view text, int base) {
  text = text.substr(0, trimmed_end(text));
  text.remove_prefix(skip_space(text, 0));
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const char letter = text.size() > 2 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (prefix_base && (base == 0 || base == prefix_base)) {
    text.remove_prefix(2);
    base = prefix_base;
    if (text.starts_with('_')) text.remove_prefix(1);
  } else if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos)
      return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36 || text.empty()) return std::nullopt;
  Int value = 0;
  bool after_digit = false;
  for (const char c : text) {
    if (c == '_' && after_digit) {
      after_digit = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'                     ? c - '0'
                      : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10
                                                               : 99;
    if (digit >= base || __builtin_mul_overflow(value, Int{base}, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value))
      return std::nullopt;
    after_digit = true;
  }
  if (!after_digit) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> parse_float(std::string_view text) {
  text = text.substr(0, trimmed_end(text));
  text.remove_prefix(skip_space(text, 0));
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with('-') || text.starts_with('+')) return std::nullopt;
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool between = i > 0 && i + 1 < text.size() && is_decimal(static_cast<unsigned char>(text[i - 1])) &&
                         is_decimal(static_cast<unsigned char>(text[i + 1]));
    if (text[i] != '_' || !between) digits += text[i];
  }
  const std::string word = to_lower(digits);
  double value = 0;
  if (word == "inf" || word == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (word == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (word.find_first_of("ni(") != std::string::npos) return std::nullopt;
    const auto [stop, status] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (status == std::errc::invalid_argument || stop != word.data() + word.size()) return std::nullopt;
    if (status == std::errc::result_out_of_range)
      value = word.find("e-") == std::string::npos ? std::numeric_limits<double>::infinity() : 0.0;
  }
  return negative ? -value : value;
}

Int integer_of_float(Runtime& rt, double value) {
  constexpr double kLimit = 1e38;  // below 2^127
  if (!(std::abs(value) < kLimit)) rt.error("cannot convert float {} to an integer", float_repr(value));
  return static_cast<Int>(value);
}

}  // namespace fettle::text::jinja
