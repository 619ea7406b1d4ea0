#include "text/jinja/printing.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "text/jinja/characters.h"
#include "text/jinja/operators.h"

namespace fettle::text::jinja {
namespace {

// Values can be nested by loops; printing them recurses.
constexpr int kMaxValueDepth = 200;

void append_escape(std::string& out, char32_t c) {
  if (c < 0x100)
    out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
  else if (c < 0x10000)
    out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  else
    out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
}

void append_repr_run(std::string& out, std::string_view run, char quote) {
  for (size_t at = 0; at < run.size();) {
    const size_t end = next_byte(run, at);
    const char32_t c = code_point_at(run, at);
    if (c == static_cast<unsigned char>(quote) || c == '\\')
      (out += '\\') += static_cast<char>(c);
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (is_printable(c))
      out += run.substr(at, end - at);
    else
      append_escape(out, c);
    at = end;
  }
}

void append_string_repr(Runtime& rt, const MarkedText& text, MarkedText& out) {
  rt.step_mapping(text.size());
  const bool has_single = text.bytes().find('\'') != std::string::npos;
  const char quote = has_single && text.bytes().find('"') == std::string::npos ? '"' : '\'';
  const std::string_view quote_text(&quote, 1);
  if (text.is_markup()) out.append("Markup(", false);
  out.append(quote_text, text.any_input());
  text.for_each_run([&](std::string_view run, bool input) {
    std::string escaped;
    append_repr_run(escaped, run, quote);
    out.append(escaped, input);
  });
  out.append(quote_text, text.any_input());
  if (text.is_markup()) out.append(")", false);
}

class Printer {
 public:
  Printer(Runtime& rt, MarkedText& out) : rt_(rt), out_(out) {}

  void repr(const Value& value) {
    rt_.step();
    rt_.check_text_size(out_.size());
    if (value.is_undefined())
      put("Undefined");
    else if (value.is_string())
      append_string_repr(rt_, value.text(), out_);
    else if (value.is_object())
      object(value);
    else
      out_.append(to_text(rt_, value));
  }

 private:
  void put(std::string_view text) { out_.append(text, false); }

  void object(const Value& value) {
    if (++depth_ > kMaxValueDepth) rt_.error("value nests too deeply to print");
    switch (value.object()->type) {
      case ObjectType::kList:
        items(value.sequence(), "[", "]");
        break;
      case ObjectType::kTuple:
        items(value.sequence(), "(", value.sequence().items.size() == 1 ? ",)" : ")");
        break;
      case ObjectType::kKeysView:
        items(value.sequence(), "dict_keys([", "])");
        break;
      case ObjectType::kValuesView:
        items(value.sequence(), "dict_values([", "])");
        break;
      case ObjectType::kItemsView:
        items(value.sequence(), "dict_items([", "])");
        break;
      case ObjectType::kRange:
        range(static_cast<const Range&>(*value.object()));
        break;
      case ObjectType::kDict:
        entries(value.dict());
        break;
      case ObjectType::kNamespace:
        put("<Namespace ");
        entries(value.dict());
        put(">");
        break;
      default:
        put(fmt::format("<{}>", value.type_name()));
    }
    --depth_;
  }

  void items(const Sequence& sequence, std::string_view open, std::string_view close) {
    put(open);
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i) put(", ");
      repr(sequence.items[i]);
    }
    put(close);
  }

  void entries(const Dict& dict) {
    put("{");
    bool first = true;
    for (const auto& [key, value] : dict.entries()) {
      if (!first) put(", ");
      first = false;
      repr(key);
      put(": ");
      repr(value);
    }
    put("}");
  }

  void range(const Range& r) {
    put("range(" + integer_text(r.start) + ", " + integer_text(r.stop));
    if (r.step != 1) put(", " + integer_text(r.step));
    put(")");
  }

  Runtime& rt_;
  MarkedText& out_;
  int depth_ = 0;
};

class JsonPrinter {
 public:
  JsonPrinter(Runtime& rt, const JsonStyle& style) : rt_(rt), style_(style) {}

  MarkedText print(const Value& value) {
    write(value);
    return MarkedText(std::move(out_), any_input_);
  }

 private:
  void write(const Value& value) {
    rt_.step();
    rt_.check_text_size(out_.size());
    if (value.is_none())
      out_ += "null";
    else if (value.is_bool())
      out_ += value.boolean() ? "true" : "false";
    else if (value.is_int())
      out_ += integer_text(value.integer());
    else if (value.is_float())
      out_ += number(value.number());
    else if (value.is_string())
      string(value.text());
    else if (value.is_list() || value.is_tuple())
      array(value.sequence());
    else if (value.is_dict())
      object(value.dict());
    else
      rt_.error("object of type {} is not JSON serializable", value.type_name());
  }

  static std::string number(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return float_repr(d);
  }

  void string(const MarkedText& text) {
    rt_.step_mapping(text.size());
    any_input_ |= text.any_input();
    out_ += '"';
    const std::string_view bytes = text.bytes();
    for (size_t at = 0; at < bytes.size();) {
      const size_t end = next_byte(bytes, at);
      character(code_point_at(bytes, at), bytes.substr(at, end - at));
      at = end;
    }
    out_ += '"';
  }

  void character(char32_t c, std::string_view bytes) {
    switch (c) {
      case '"':
        out_ += "\\\"";
        return;
      case '\\':
        out_ += "\\\\";
        return;
      case '\n':
        out_ += "\\n";
        return;
      case '\r':
        out_ += "\\r";
        return;
      case '\t':
        out_ += "\\t";
        return;
      case '\f':
        out_ += "\\f";
        return;
      case '\b':
        out_ += "\\b";
        return;
      default:
        break;
    }
    if (c >= 0x20 && (c < 0x7F || !style_.ensure_ascii)) {
      out_ += bytes;
    } else if (c < 0x10000) {
      unit(c);
    } else {
      unit(0xD800 + ((c - 0x10000) >> 10));
      unit(0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }

  void unit(char32_t code_unit) { out_ += fmt::format("\\u{:04x}", static_cast<uint32_t>(code_unit)); }

  void new_line() {
    if (!style_.pretty) return;
    out_ += '\n';
    for (int i = 0; i < depth_; ++i) out_ += style_.indent;
  }

  void open(char bracket) {
    out_ += bracket;
    if (++depth_ > kMaxValueDepth) rt_.error("value nests too deeply to print");
  }

  void separate(bool first) {
    if (!first) out_ += style_.item_separator;
    new_line();
  }

  void close(char bracket, bool empty) {
    --depth_;
    if (!empty) new_line();
    out_ += bracket;
  }

  void array(const Sequence& sequence) {
    open('[');
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      separate(i == 0);
      write(sequence.items[i]);
    }
    close(']', sequence.items.empty());
  }

  void object(const Dict& dict) {
    open('{');
    std::vector<const Dict::Entry*> entries;
    entries.reserve(dict.size());
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      for (size_t n = dict.size(); n > 0; n /= 2) rt_.step_elements(dict.size());
      std::stable_sort(entries.begin(), entries.end(),
                       [this](const auto* a, const auto* b) { return less_than(rt_, a->first, b->first); });
    }
    for (size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0);
      key(entries[i]->first);
      out_ += style_.key_separator;
      write(entries[i]->second);
    }
    close('}', entries.empty());
  }

  void key(const Value& key) {
    if (key.is_string()) return string(key.text());
    if (!key.is_none() && !key.is_number())
      rt_.error("keys must be str, int, float, bool or None, not {}", key.type_name());
    out_ += '"';
    write(key);
    out_ += '"';
  }

  Runtime& rt_;
  const JsonStyle& style_;
  std::string out_;
  int depth_ = 0;
  bool any_input_ = false;
};

}  // namespace

std::string integer_text(Int value) { return fmt::format("{}", value); }

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // Shortest digits d.ddd and exponent, then laid out as Python does.
  char buffer[64];
  const auto [stop, status] = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(stop - buffer));
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const size_t e = text.find('e');
  int exponent = 0;
  const char* digits_of_exponent = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, text.data() + text.size(), exponent);
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  const int count = static_cast<int>(digits.size());
  std::string out = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) (out += '.') += digits.substr(1);
    out += fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else if (exponent + 1 >= count) {
    out += digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  } else {
    const auto point = static_cast<size_t>(exponent + 1);
    out += digits.substr(0, point) + "." + digits.substr(point);
  }
  return out;
}

MarkedText to_text(Runtime& rt, const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  if (value.is_none()) return MarkedText("None");
  if (value.is_bool()) return MarkedText(value.boolean() ? "True" : "False");
  if (value.is_int()) return MarkedText(integer_text(value.integer()));
  if (value.is_float()) return MarkedText(float_repr(value.number()));
  MarkedText out;
  append_repr(rt, value, out);
  return out;
}

void append_repr(Runtime& rt, const Value& value, MarkedText& out) { Printer(rt, out).repr(value); }

MarkedText to_json(Runtime& rt, const Value& value, const JsonStyle& style) {
  return JsonPrinter(rt, style).print(value);
}

}  // namespace fettle::text::jinja
