#include <algorithm>

#include "text/jinja/characters.h"
#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/number_format.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"
#include "text/jinja/python_format.h"

namespace fettle::text::jinja {
namespace {

const MarkedText& text_or_error(Runtime& rt, const Value& value, const char* filter) {
  if (value.is_undefined()) rt.undefined_error(value);
  if (!value.is_string()) rt.error("filter '{}' expects a string, not {}", filter, value.type_name());
  return value.text();
}

Value upper(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "upper", args, {});
  return rt.text(map_runs(rt, to_text(rt, input), to_upper));
}

Value lower(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "lower", args, {});
  return rt.text(map_runs(rt, to_text(rt, input), to_lower));
}

Value capitalize_filter(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "capitalize", args, {});
  return rt.text(capitalize_text(rt, to_text(rt, input)));
}

// Unlike str.title, words start only after blanks, '-' and opening brackets.
Value title(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "title", args, {});
  const MarkedText text = to_text(rt, input);
  rt.step_mapping(text.size());
  MarkedText out;
  bool at_start = true;
  for (size_t at = 0; at < text.size();) {
    const size_t end = next_byte(text.bytes(), at);
    const char32_t c = code_point_at(text.bytes(), at);
    const std::string one = text.bytes().substr(at, end - at);
    const bool separates = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    out.append(at_start && !separates ? to_upper(one) : to_lower(one), text.input_at(at));
    at_start = separates;
    at = end;
  }
  return rt.text(std::move(out));
}

Value trim(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "trim", args, {"chars"});
  return rt.text(strip_text(rt, to_text(rt, input), p.has(0) ? &p.text(0) : nullptr, true, true));
}

Value replace(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "replace", args, {"old", "new", "count"}, 2);
  const int64_t count = p.has(2) ? p.integer(2, -1) : -1;
  return rt.text(replace_text(rt, to_text(rt, input), to_text(rt, p[0]), to_text(rt, p[1]), count));
}

Value indent(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "indent", args, {"width", "first", "blank"});
  MarkedText text = text_or_error(rt, input, "indent");
  MarkedText blanks;
  if (p.get(0) && p[0].is_string()) {
    blanks = p.text(0);
  } else {
    const auto width = static_cast<size_t>(std::max<int64_t>(0, p.integer(0, 4)));
    rt.check_text_size(width);
    blanks = MarkedText(std::string(width, ' '));
  }
  text.append("\n", false);  // so that the last line counts even when empty
  MarkedText out;
  bool first_line = true;
  for (const Value& line : split_lines(rt, text, false)) {
    if (!first_line) out.append("\n", false);
    const bool wanted = first_line ? p.flag(1, false) : p.flag(2, false) || !line.text().empty();
    if (wanted) out.append(blanks);
    out.append(line.text());
    rt.check_text_size(out.size());
    first_line = false;
  }
  return rt.text(std::move(out));
}

Value truncate(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "truncate", args, {"length", "killwords", "end", "leeway"});
  const MarkedText ellipsis = p.get(2) ? p.text(2) : MarkedText("...");
  const int64_t length = p.integer(0, 255);
  const int64_t leeway = p.has(3) ? p.integer(3, 5) : 5;
  const auto end_length = static_cast<int64_t>(code_points(ellipsis.bytes()));
  if (length < end_length) rt.error("truncate: expected length >= {}, got {}", end_length, length);
  if (leeway < 0) rt.error("truncate: expected leeway >= 0, got {}", leeway);
  const auto size = length_of(input);
  if (!size) rt.error("object of type '{}' has no length", input.type_name());
  if (static_cast<int64_t>(*size) <= length + std::min<int64_t>(leeway, 1 << 30)) return input;
  const MarkedText& text = text_or_error(rt, input, "truncate");
  rt.step_bytes(text.size());
  MarkedText out = text.slice(0, byte_offset(text.bytes(), static_cast<size_t>(length - end_length)));
  if (!p.flag(1, false)) {
    const size_t blank = out.bytes().rfind(' ');
    if (blank != std::string::npos) out = out.slice(0, blank);
  }
  out.append(ellipsis);
  return rt.text(std::move(out));
}

Value center(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "center", args, {"width"});
  const Args width{{p.get(0) ? p[0] : Value(80)}, {}};
  return find_string_method("center")(rt, rt.text(to_text(rt, input)), width);
}

Value wordcount(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "wordcount", args, {});
  const MarkedText text = to_text(rt, input);
  rt.step_mapping(text.size());
  size_t words = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size(); at = next_byte(text.bytes(), at)) {
    const char32_t c = code_point_at(text.bytes(), at);
    const bool word = is_alnum(c) || c == '_';
    words += word && !in_word ? 1 : 0;
    in_word = word;
  }
  return Value(words);
}

Value format(Runtime& rt, const Value& input, const Args& args) {
  if (!args.positional.empty() && !args.named.empty())
    rt.error("format: can't handle positional and keyword arguments at the same time");
  const MarkedText text = to_text(rt, input);
  if (args.named.empty()) return rt.text(percent_format(rt, text, rt.tuple(args.positional)));
  Dict& values = rt.new_dict();
  for (const auto& [name, value] : args.named) rt.dict_set(values, rt.text(name), value);
  return rt.text(percent_format(rt, text, Value(&values)));
}

Value safe(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "safe", args, {});
  MarkedText text = to_text(rt, input);
  text.set_markup(true);
  return rt.text(std::move(text));
}

Value escape(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "escape", args, {});
  if (input.is_string() && input.text().is_markup()) return input;
  const MarkedText text = to_text(rt, input);
  rt.step_mapping(text.size());
  return rt.text(escape_html(text));
}

Value forceescape(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "forceescape", args, {});
  const MarkedText text = to_text(rt, input);
  rt.step_mapping(text.size());
  return rt.text(escape_html(text));
}

Value string(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "string", args, {});
  return input.is_string() ? input : rt.text(to_text(rt, input));
}

std::string percent_encode(std::string_view text, std::string_view also_safe, bool plus_for_space) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_alnum(byte < 0x80 ? byte : 0) || std::string_view("_.-~").find(c) != std::string_view::npos ||
        also_safe.find(c) != std::string_view::npos) {
      out += c;
    } else if (c == ' ' && plus_for_space) {
      out += '+';
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

Value urlencode(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "urlencode", args, {});
  const auto encode = [&rt](const Value& value, bool in_query) {
    return map_runs(rt, to_text(rt, value),
                    [in_query](std::string_view run) { return percent_encode(run, in_query ? "" : "/", in_query); });
  };
  if (input.is_string() || !is_iterable(input)) return rt.text(encode(input, false));
  MarkedText out;
  const auto put_pair = [&](const Value& key, const Value& value) {
    if (!out.empty()) out.append("&", false);
    out.append(encode(key, true));
    out.append("=", false);
    out.append(encode(value, true));
  };
  if (input.is_dict()) {
    for (const auto& [key, value] : input.dict().entries()) put_pair(key, value);
  } else {
    for (const Value& pair : elements(rt, input)) {
      const std::vector<Value> parts = elements(rt, pair);
      if (parts.size() != 2) rt.error("urlencode: expected pairs, found {} elements", parts.size());
      put_pair(parts[0], parts[1]);
    }
  }
  return rt.text(std::move(out));
}

constexpr NamedFilter kFilters[] = {
    {"capitalize", capitalize_filter},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"forceescape", forceescape},
    {"format", format},
    {"indent", indent},
    {"lower", lower},
    {"replace", replace},
    {"safe", safe},
    {"string", string},
    {"title", title},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", upper},
    {"urlencode", urlencode},
    {"wordcount", wordcount},
};

}  // namespace

FilterTable text_filters() { return {std::begin(kFilters), std::end(kFilters)}; }

}  // namespace fettle::text::jinja
