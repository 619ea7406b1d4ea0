#include "text/jinja/python_format.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/jinja/characters.h"
#include "text/jinja/number_format.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace fettle::text::jinja {
namespace {

// repr() with everything beyond ASCII escaped.
MarkedText ascii_repr(Runtime& rt, const Value& value) {
  MarkedText repr;
  append_repr(rt, value, repr);
  MarkedText out;
  repr.for_each_run([&out](std::string_view run, bool input) {
    std::string escaped;
    for (const char32_t c : utf8::to_utf32(run)) {
      if (c < 0x80)
        escaped += static_cast<char>(c);
      else
        escaped += c < 0x100     ? fmt::format("\\x{:02x}", static_cast<uint32_t>(c))
                   : c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(c))
                                 : fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
    out.append(escaped, input);
  });
  return out;
}

MarkedText character_of(Runtime& rt, Int code) {
  if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) rt.error("%c: not a character");
  std::string out;
  utf8::append(out, static_cast<char32_t>(code));
  return MarkedText(std::move(out));
}

class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, const MarkedText& format, const Value& values)
      : rt_(rt), format_(format), text_(format.bytes()), values_(values) {}

  MarkedText run() {
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      put(format_.slice(at_, percent));
      at_ = percent + 1;
      if (percent < text_.size()) conversion();
    }
    // Values that can be indexed may serve keys, so that Python lets them go unused.
    const bool indexable =
        values_.is_dict() || values_.is_list() || values_.is_undefined() || values_.is_object(ObjectType::kRange);
    if (!indexable && next_ < value_count()) rt_.error("not all arguments converted during string formatting");
    out_.set_markup(format_.is_markup());
    return std::move(out_);
  }

 private:
  size_t value_count() const { return values_.is_tuple() ? values_.sequence().items.size() : 1; }

  void put(const MarkedText& piece) {
    rt_.check_text_size(out_.size() + piece.size());
    rt_.step();
    out_.append(piece);
  }

  char peek() const {
    if (at_ >= text_.size()) rt_.error("incomplete format");
    return text_[at_];
  }

  const Value& next_value() {
    if (next_ >= value_count()) rt_.error("not enough arguments for format string");
    const size_t i = next_++;
    return values_.is_tuple() ? values_.sequence().items[i] : values_;
  }

  const Value& keyed_value() {
    const size_t close = text_.find(')', ++at_);
    if (close == std::string_view::npos) rt_.error("incomplete format key");
    const std::string_view key = text_.substr(at_, close - at_);
    if (!values_.is_dict()) rt_.error("format requires a mapping");
    const Value* found = values_.dict().find(key);
    if (!found) rt_.error("format key '{}' is missing", printable(key, 80));
    at_ = close + 1;
    return *found;
  }

  size_t read_size() {
    if (peek() == '*') {
      ++at_;
      const Value& value = next_value();
      if (!value.is_integral() || value.integer() < 0 || value.integer() > INT32_MAX)
        rt_.error("* wants a non-negative int");
      return static_cast<size_t>(value.integer());
    }
    size_t value = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_)
      value = std::min<size_t>(INT32_MAX, value * 10 + static_cast<size_t>(peek() - '0'));
    return value;
  }

  void conversion() {
    if (peek() == '%') {
      out_.append("%", false);
      ++at_;
      return;
    }
    const Value* value = peek() == '(' ? &keyed_value() : nullptr;
    FormatSpec spec;
    bool left = false;
    for (;; ++at_) {
      const char flag = peek();
      if (flag == '-') left = true;
      if (flag == '0') spec.zero = true;
      if (flag == '#') spec.alternate = true;
      if (flag == '+' || (flag == ' ' && spec.sign == '-')) spec.sign = flag;
      if (std::string_view("-0#+ ").find(flag) == std::string_view::npos) break;
    }
    spec.width = read_size();
    rt_.check_text_size(spec.width);
    if (peek() == '.') {
      ++at_;
      const size_t precision = read_size();
      if (precision > kMaxPrecision) rt_.error("precision {} is too large", precision);
      spec.precision = static_cast<int>(precision);
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    const char kind = peek();
    ++at_;
    if (left) spec.align = '<', spec.zero = false;
    put(convert(kind, value ? *value : next_value(), spec));
  }

  MarkedText convert(char kind, const Value& value, FormatSpec spec) {
    switch (kind) {
      case 's':
        return text(escape_if_needed(to_text(rt_, value)), spec);
      case 'a':
        return text(ascii_repr(rt_, value), spec);
      case 'r': {
        MarkedText repr;
        append_repr(rt_, value, repr);
        return text(escape_if_needed(repr), spec);
      }
      case 'c':
        return text(character(value), spec);
      case 'd':
      case 'i':
      case 'u':
        if (!value.is_number()) rt_.error("%{} format: a number is required, not {}", kind, value.type_name());
        spec.type = 'd';
        return number(
            format_integer(rt_, value.is_float() ? integer_of_float(rt_, value.number()) : value.integer(), spec),
            spec);
      case 'o':
      case 'x':
      case 'X':
        if (!value.is_integral()) rt_.error("%{} format: an integer is required, not {}", kind, value.type_name());
        spec.type = kind;
        return number(format_integer(rt_, value.integer(), spec), spec);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!value.is_number()) rt_.error("must be real number, not {}", value.type_name());
        spec.type = kind;
        return number(format_float(rt_, value.number(), spec), spec);
      default:
        rt_.error("unsupported format character '{}'", printable(std::string_view(&kind, 1)));
    }
  }

  MarkedText escape_if_needed(MarkedText piece) const {
    return format_.is_markup() && !piece.is_markup() ? escape_html(piece) : piece;
  }

  MarkedText character(const Value& value) {
    if (value.is_string() && code_points(value.bytes()) == 1) return value.text();
    if (!value.is_integral()) rt_.error("%c requires int or char");
    return character_of(rt_, value.integer());
  }

  MarkedText text(MarkedText piece, FormatSpec spec) {
    if (spec.precision >= 0) piece = piece.slice(0, byte_offset(piece.bytes(), static_cast<size_t>(spec.precision)));
    return pad(rt_, piece, spec, '>');
  }

  MarkedText number(std::string piece, const FormatSpec& spec) {
    return pad(rt_, MarkedText(std::move(piece)), spec, '>');
  }

  Runtime& rt_;
  const MarkedText& format_;
  const std::string_view text_;
  const Value& values_;
  size_t at_ = 0;
  size_t next_ = 0;
  MarkedText out_;
};

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const Args& args) : rt_(rt), args_(args) {}

  MarkedText run(const MarkedText& format, int depth) {
    if (depth > 2) rt_.error("max string recursion exceeded");
    const std::string_view text = format.bytes();
    MarkedText out;
    for (size_t at = 0; at < text.size();) {
      rt_.step();
      rt_.check_text_size(out.size());
      const size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out.append(format.slice(at, brace));
      if (brace == text.size()) break;
      if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
        out.append(format.slice(brace, brace + 1));
        at = brace + 2;
      } else if (text[brace] == '}') {
        rt_.error("single '}}' encountered in format string");
      } else {
        const size_t end = field_end(text, brace + 1);
        out.append(field(format.slice(brace + 1, end), depth));
        at = end + 1;
      }
    }
    return out;
  }

 private:
  size_t field_end(std::string_view text, size_t at) const {
    int open = 1;
    for (; at < text.size(); ++at) {
      if (text[at] == '{') ++open;
      if (text[at] == '}' && --open == 0) return at;
    }
    rt_.error("expected '}}' before end of string");
  }

  MarkedText field(const MarkedText& source, int depth) {
    const std::string_view text = source.bytes();
    size_t name_end = 0;
    for (bool bracket = false; name_end < text.size(); ++name_end) {
      if (text[name_end] == '[') bracket = true;
      if (text[name_end] == ']') bracket = false;
      if (!bracket && (text[name_end] == '!' || text[name_end] == ':')) break;
    }
    Value value = lookup(text.substr(0, name_end));
    size_t at = name_end;
    if (at < text.size() && text[at] == '!') {
      if (at + 1 >= text.size()) rt_.error("format string misses the conversion after '!'");
      value = convert(value, text[at + 1]);
      at += 2;
      if (at < text.size() && text[at] != ':') rt_.error("expected ':' after conversion specifier");
    }
    const MarkedText spec = at < text.size() ? run(source.slice(at + 1, text.size()), depth + 1) : MarkedText();
    return format_value(rt_, value, spec.bytes());
  }

  Value convert(const Value& value, char conversion) {
    if (conversion == 's') return rt_.text(to_text(rt_, value));
    if (conversion == 'a') return rt_.text(ascii_repr(rt_, value));
    if (conversion != 'r') rt_.error("unknown conversion specifier '{}'", printable(std::string_view(&conversion, 1)));
    MarkedText repr;
    append_repr(rt_, value, repr);
    return rt_.text(std::move(repr));
  }

  static bool all_digits(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  }

  Value lookup(std::string_view path) {
    const size_t head_end = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, head_end));
    for (size_t at = head_end; at < path.size();) {
      if (path[at] == '.') {
        const size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
        value = get_attribute(rt_, value, std::string(path.substr(at + 1, end - at - 1)));
        at = end;
      } else {
        const size_t end = path.find(']', at);
        if (path[at] != '[' || end == std::string_view::npos) rt_.error("malformed field name in format string");
        const std::string_view key = path.substr(at + 1, end - at - 1);
        const auto index = all_digits(key) ? parse_integer(key, 10) : std::nullopt;
        value = get_item(rt_, value, index ? Value(*index) : rt_.text(std::string(key)));
        if (value.is_undefined()) rt_.undefined_error(value);
        at = end + 1;
      }
    }
    return value;
  }

  Value first(std::string_view name) {
    if (name.empty() || all_digits(name)) {
      (name.empty() ? uses_automatic_ : uses_manual_) = true;
      if (uses_automatic_ && uses_manual_) rt_.error("cannot mix manual and automatic field numbering");
      const auto index = name.empty() ? Int{next_++} : parse_integer(name, 10).value_or(Int{INT64_MAX});
      if (index >= static_cast<Int>(args_.positional.size()))
        rt_.error("replacement index {} out of range for positional arguments", integer_text(index));
      return args_.positional[static_cast<size_t>(index)];
    }
    for (const auto& [key, value] : args_.named)
      if (key == name) return value;
    rt_.error("format argument '{}' is missing", printable(name, 80));
  }

  Runtime& rt_;
  const Args& args_;
  int next_ = 0;
  bool uses_automatic_ = false, uses_manual_ = false;
};

}  // namespace

MarkedText percent_format(Runtime& rt, const MarkedText& format, const Value& values) {
  return PercentFormatter(rt, format, values).run();
}

MarkedText brace_format(Runtime& rt, const MarkedText& format, const Args& args) {
  MarkedText out = BraceFormatter(rt, args).run(format, 1);
  rt.check_text_size(out.size());
  return out;
}

MarkedText format_value(Runtime& rt, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return to_text(rt, value);
  const FormatSpec spec = parse_format_spec(rt, spec_text);
  if (value.is_string()) return format_text(rt, value.text(), spec);
  if (value.is_integral() && spec.type == 'c') return pad(rt, character_of(rt, value.integer()), spec, '<');
  if (value.is_integral()) {
    if (spec.precision >= 0 && std::string_view("eEfFgG%").find(spec.type) == std::string_view::npos)
      rt.error("precision is not allowed for an integer");
    return pad(rt, MarkedText(format_integer(rt, value.integer(), spec)), spec, '>');
  }
  if (value.is_float()) return pad(rt, MarkedText(format_float(rt, value.number(), spec)), spec, '>');
  rt.error("unsupported format string passed to {}", value.type_name());
}

}  // namespace fettle::text::jinja
