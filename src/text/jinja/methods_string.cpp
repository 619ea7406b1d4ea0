#include <algorithm>

#include "base/utf8.h"
#include "text/jinja/characters.h"
#include "text/jinja/methods.h"
#include "text/jinja/number_format.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_format.h"

namespace fettle::text::jinja {
namespace {

Value upper(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "upper", args, {});
  return rt.text(map_runs(rt, self.text(), to_upper));
}
Value lower(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "lower", args, {});
  return rt.text(map_runs(rt, self.text(), to_lower));
}
Value casefold(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "casefold", args, {});
  return rt.text(map_runs(rt, self.text(), case_fold));
}
Value swapcase(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "swapcase", args, {});
  return rt.text(map_runs(rt, self.text(), swap_case));
}
// Word boundaries are looked for inside runs only, so that a text of mixed origin starts a word at each border.
Value title(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "title", args, {});
  return rt.text(map_runs(rt, self.text(), to_title));
}
Value capitalize_method(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "capitalize", args, {});
  return rt.text(capitalize_text(rt, self.text()));
}

Value strip_with(Runtime& rt, const Value& self, const Args& args, const char* name, bool left, bool right) {
  const Parameters p(rt, name, args, {"chars"});
  return rt.text(strip_text(rt, self.text(), p.has(0) ? &p.text(0) : nullptr, left, right));
}
Value strip(Runtime& rt, const Value& self, const Args& args) {
  return strip_with(rt, self, args, "strip", true, true);
}
Value lstrip(Runtime& rt, const Value& self, const Args& args) {
  return strip_with(rt, self, args, "lstrip", true, false);
}
Value rstrip(Runtime& rt, const Value& self, const Args& args) {
  return strip_with(rt, self, args, "rstrip", false, true);
}

Value piece(Runtime& rt, const MarkedText& text, size_t begin, size_t end) { return rt.text(text.slice(begin, end)); }

std::vector<Value> split_on_space(Runtime& rt, const MarkedText& text, int64_t max) {
  const std::string_view bytes = text.bytes();
  std::vector<Value> out;
  size_t at = skip_space(bytes, 0);
  while (at < bytes.size()) {
    if (max >= 0 && static_cast<int64_t>(out.size()) == max) {
      out.push_back(piece(rt, text, at, bytes.size()));
      break;
    }
    size_t end = at;
    while (end < bytes.size() && !is_space(code_point_at(bytes, end))) end = next_byte(bytes, end);
    out.push_back(piece(rt, text, at, end));
    at = skip_space(bytes, end);
  }
  return out;
}

std::vector<Value> rsplit_on_space(Runtime& rt, const MarkedText& text, int64_t max) {
  const std::string_view bytes = text.bytes();
  std::vector<Value> out;
  size_t end = trimmed_end(bytes);
  while (end > 0) {
    if (max >= 0 && static_cast<int64_t>(out.size()) == max) {
      out.push_back(piece(rt, text, 0, end));
      break;
    }
    size_t begin = end;
    while (begin > 0) {
      const size_t before = previous_byte(bytes, begin);
      if (is_space(code_point_at(bytes, before))) break;
      begin = before;
    }
    out.push_back(piece(rt, text, begin, end));
    end = trimmed_end(bytes.substr(0, begin));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

Value split(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "split", args, {"sep", "maxsplit"});
  const MarkedText& text = self.text();
  const int64_t max = p.integer(1, -1);
  rt.step_bytes(text.size());
  if (!p.has(0)) {
    rt.step_mapping(text.size());
    return rt.list(split_on_space(rt, text, max));
  }
  const std::string& separator = p.text(0).bytes();
  if (separator.empty()) rt.error("empty separator");
  std::vector<Value> out;
  size_t at = 0;
  while (max < 0 || static_cast<int64_t>(out.size()) < max) {
    const size_t found = find_text(text.bytes(), separator, at);
    if (found == std::string::npos) break;
    out.push_back(piece(rt, text, at, found));
    at = found + separator.size();
  }
  out.push_back(piece(rt, text, at, text.size()));
  return rt.list(std::move(out));
}

Value rsplit(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "rsplit", args, {"sep", "maxsplit"});
  const MarkedText& text = self.text();
  const int64_t max = p.integer(1, -1);
  rt.step_mapping(text.size());
  if (!p.has(0)) return rt.list(rsplit_on_space(rt, text, max));
  const std::string& separator = p.text(0).bytes();
  if (separator.empty()) rt.error("empty separator");
  // Found from the right: in the reversed text from the left.
  const std::string backwards(text.bytes().rbegin(), text.bytes().rend());
  const std::string reversed(separator.rbegin(), separator.rend());
  std::vector<Value> out;
  size_t at = 0;
  while (max < 0 || static_cast<int64_t>(out.size()) < max) {
    const size_t found = find_text(backwards, reversed, at);
    if (found == std::string::npos) break;
    out.push_back(piece(rt, text, text.size() - found, text.size() - at));
    at = found + separator.size();
  }
  out.push_back(piece(rt, text, 0, text.size() - at));
  std::reverse(out.begin(), out.end());
  return rt.list(std::move(out));
}

Value splitlines(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "splitlines", args, {"keepends"});
  return rt.list(split_lines(rt, self.text(), p.flag(0, false)));
}

Value partition_at(Runtime& rt, const MarkedText& text, const MarkedText& separator, size_t found, bool from_right) {
  std::vector<Value> parts;
  if (found == std::string::npos) {
    const Value whole = piece(rt, text, 0, text.size());
    const Value empty = rt.text("");
    return rt.tuple(from_right ? std::vector<Value>{empty, empty, whole} : std::vector<Value>{whole, empty, empty});
  }
  const size_t after = found + separator.size();
  return rt.tuple({piece(rt, text, 0, found), piece(rt, text, found, after), piece(rt, text, after, text.size())});
}
Value partition(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "partition", args, {"sep"}, 1);
  if (p.text(0).empty()) rt.error("empty separator");
  rt.step_bytes(self.text().size());
  return partition_at(rt, self.text(), p.text(0), find_text(self.bytes(), p.text(0).bytes()), false);
}
Value rpartition(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "rpartition", args, {"sep"}, 1);
  if (p.text(0).empty()) rt.error("empty separator");
  rt.step_bytes(self.text().size());
  return partition_at(rt, self.text(), p.text(0), find_last_text(self.bytes(), p.text(0).bytes()), true);
}

Value replace(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "replace", args, {"old", "new", "count"}, 2);
  return rt.text(replace_text(rt, self.text(), p.text(0), p.text(1), p.integer(2, -1)));
}

Value join(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "join", args, {"iterable"}, 1);
  MarkedText out;
  bool first = true;
  for (const Value& item : elements(rt, p[0])) {
    if (!item.is_string()) rt.error("join(): expected str instances, {} found", item.type_name());
    if (!first) out.append(self.text());
    first = false;
    out.append(item.text());
    rt.step();
    rt.check_text_size(out.size());
  }
  return rt.text(std::move(out));
}

// The window text[start:end] in bytes from arguments i and i + 1, with its first code point.
struct Window {
  size_t begin, end, first;
  bool valid;  // false when start lies beyond the end
};
Window window(const Parameters& p, size_t i, std::string_view text) {
  const auto size = static_cast<int64_t>(code_points(text));
  const auto clamp = [size](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + size : v, 0, size); };
  const int64_t raw_start = p.has(i) ? p.integer(i, 0) : 0;
  const auto start = static_cast<size_t>(clamp(raw_start));
  const auto stop = static_cast<size_t>(p.has(i + 1) ? clamp(p.integer(i + 1, 0)) : size);
  const size_t begin = byte_offset(text, start);
  const size_t end = stop < start ? begin : byte_offset(text, stop);
  return {begin, end, start, raw_start <= size && start <= stop};
}

// Code point index of the first or last occurrence, -1 when there is none.
int64_t locate(Runtime& rt, const Value& self, const Args& args, const char* name, bool from_right) {
  const Parameters p(rt, name, args, {"sub", "start", "end"}, 1);
  const std::string_view text = self.bytes();
  rt.step_mapping(text.size());
  const Window w = window(p, 1, text);
  if (!w.valid) return -1;
  const std::string_view part = text.substr(w.begin, w.end - w.begin);
  const std::string& needle = p.text(0).bytes();
  const size_t found = from_right ? find_last_text(part, needle) : find_text(part, needle);
  return found == std::string_view::npos ? -1 : static_cast<int64_t>(w.first + code_points(part.substr(0, found)));
}
Value found_or_error(Runtime& rt, int64_t position) {
  if (position < 0) rt.error("substring not found");
  return Value(static_cast<Int>(position));
}
Value find(Runtime& rt, const Value& self, const Args& args) {
  return Value(static_cast<Int>(locate(rt, self, args, "find", false)));
}
Value rfind(Runtime& rt, const Value& self, const Args& args) {
  return Value(static_cast<Int>(locate(rt, self, args, "rfind", true)));
}
Value index(Runtime& rt, const Value& self, const Args& args) {
  return found_or_error(rt, locate(rt, self, args, "index", false));
}
Value rindex(Runtime& rt, const Value& self, const Args& args) {
  return found_or_error(rt, locate(rt, self, args, "rindex", true));
}

Value count(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "count", args, {"sub", "start", "end"}, 1);
  const std::string_view text = self.bytes();
  rt.step_mapping(text.size());
  const Window w = window(p, 1, text);
  const std::string_view part = text.substr(w.begin, w.end - w.begin);
  const std::string& needle = p.text(0).bytes();
  if (!w.valid) return Value(0);
  if (needle.empty()) return Value(code_points(part) + 1);
  size_t total = 0;
  for (size_t at = find_text(part, needle); at != std::string_view::npos;
       at = find_text(part, needle, at + needle.size()))
    ++total;
  return Value(total);
}

bool affix_matches(std::string_view text, std::string_view affix, bool at_end) {
  return at_end ? text.ends_with(affix) : text.starts_with(affix);
}
Value has_affix(Runtime& rt, const Value& self, const Args& args, const char* name, bool at_end) {
  const Parameters p(rt, name, args, {"prefix", "start", "end"}, 1);
  const std::string_view text = self.bytes();
  Window w{0, text.size(), 0, true};
  if (p.has(1) || p.has(2)) w = window(p, 1, text);
  const std::string_view part = text.substr(w.begin, w.end - w.begin);
  if (!p[0].is_tuple()) return Value(w.valid && affix_matches(part, p.text(0).bytes(), at_end));
  for (const Value& affix : p[0].sequence().items) {
    rt.step();
    if (!affix.is_string()) rt.error("{}(): tuple must only contain str, not {}", name, affix.type_name());
    if (w.valid && affix_matches(part, affix.bytes(), at_end)) return Value(true);
  }
  return Value(false);
}
Value startswith(Runtime& rt, const Value& self, const Args& args) {
  return has_affix(rt, self, args, "startswith", false);
}
Value endswith(Runtime& rt, const Value& self, const Args& args) { return has_affix(rt, self, args, "endswith", true); }

Value removeprefix(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "removeprefix", args, {"prefix"}, 1);
  const std::string& prefix = p.text(0).bytes();
  const bool found = self.bytes().starts_with(prefix);
  return piece(rt, self.text(), found ? prefix.size() : 0, self.text().size());
}
Value removesuffix(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "removesuffix", args, {"suffix"}, 1);
  const std::string& suffix = p.text(0).bytes();
  const bool found = self.bytes().ends_with(suffix);
  return piece(rt, self.text(), 0, self.text().size() - (found ? suffix.size() : 0));
}

Value justify(Runtime& rt, const Value& self, const Args& args, const char* name, char align) {
  const Parameters p(rt, name, args, {"width", "fillchar"}, 1);
  FormatSpec spec;
  spec.align = align;
  spec.width = static_cast<size_t>(std::max<int64_t>(0, p.integer(0, 0)));
  rt.check_text_size(spec.width);
  if (p.get(1)) {
    spec.fill = p.text(1).bytes();
    if (code_points(spec.fill) != 1) rt.error("{}(): the fill character must be exactly one character long", name);
  }
  const size_t size = code_points(self.bytes());
  if (align != '^' || size >= spec.width) return rt.text(pad(rt, self.text(), spec, align));
  // str.center puts the odd blank on the left when the width is odd.
  const size_t missing = spec.width - size;
  const size_t left = missing / 2 + (missing & spec.width & 1);
  FormatSpec right_part = spec;
  right_part.align = '<';
  spec.align = '>';
  spec.width = size + left;
  return rt.text(pad(rt, pad(rt, self.text(), spec, '>'), right_part, '<'));
}
Value center(Runtime& rt, const Value& self, const Args& args) { return justify(rt, self, args, "center", '^'); }
Value ljust(Runtime& rt, const Value& self, const Args& args) { return justify(rt, self, args, "ljust", '<'); }
Value rjust(Runtime& rt, const Value& self, const Args& args) { return justify(rt, self, args, "rjust", '>'); }

Value zfill(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "zfill", args, {"width"}, 1);
  const MarkedText& text = self.text();
  const auto width = static_cast<size_t>(std::max<int64_t>(0, p.integer(0, 0)));
  rt.check_text_size(width);
  const size_t size = code_points(text.bytes());
  const bool is_signed = text.bytes().starts_with('-') || text.bytes().starts_with('+');
  MarkedText out = text.slice(0, is_signed ? 1 : 0);
  if (size < width) out.append(std::string(width - size, '0'), false);
  out.append(text.slice(is_signed ? 1 : 0, text.size()));
  return rt.text(std::move(out));
}

Value expandtabs(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "expandtabs", args, {"tabsize"});
  const auto tab = static_cast<size_t>(std::clamp<int64_t>(p.integer(0, 8), 0, 1 << 20));
  const MarkedText& text = self.text();
  rt.step_mapping(text.size());
  MarkedText out;
  size_t column = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = next_byte(text.bytes(), at);
    const char c = text.bytes()[at];
    if (c == '\t') {
      const size_t blanks = tab ? tab - column % tab : 0;
      out.append(std::string(blanks, ' '), text.input_at(at));
      rt.check_text_size(out.size());
      column += blanks;
    } else {
      out.append(text.slice(at, end));
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
    at = end;
  }
  return rt.text(std::move(out));
}

Value format(Runtime& rt, const Value& self, const Args& args) { return rt.text(brace_format(rt, self.text(), args)); }

constexpr NamedMethod kStringMethods[] = {
    {"capitalize", capitalize_method},
    {"casefold", casefold},
    {"center", center},
    {"count", count},
    {"endswith", endswith},
    {"expandtabs", expandtabs},
    {"find", find},
    {"format", format},
    {"index", index},
    {"join", join},
    {"ljust", ljust},
    {"lower", lower},
    {"lstrip", lstrip},
    {"partition", partition},
    {"removeprefix", removeprefix},
    {"removesuffix", removesuffix},
    {"replace", replace},
    {"rfind", rfind},
    {"rindex", rindex},
    {"rjust", rjust},
    {"rpartition", rpartition},
    {"rsplit", rsplit},
    {"rstrip", rstrip},
    {"split", split},
    {"splitlines", splitlines},
    {"startswith", startswith},
    {"strip", strip},
    {"swapcase", swapcase},
    {"title", title},
    {"upper", upper},
    {"zfill", zfill},
};

bool is_line_end(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

MethodFn find_string_method(std::string_view name) {
  for (const auto& entry : kStringMethods)
    if (entry.name == name) return entry.method;
  return find_string_test_method(name);
}

MarkedText capitalize_text(Runtime& rt, const MarkedText& text) {
  if (text.empty()) return {};
  const size_t first_end = next_byte(text.bytes(), 0);
  MarkedText out = map_runs(rt, text.slice(0, first_end), capitalize);
  out.append(map_runs(rt, text.slice(first_end, text.size()), to_lower));
  out.set_markup(text.is_markup());
  return out;
}

MarkedText strip_text(Runtime& rt, const MarkedText& text, const MarkedText* chars, bool left, bool right) {
  const std::string_view bytes = text.bytes();
  rt.step_bytes(bytes.size());
  std::u32string set;
  if (chars) {
    set = utf8::to_utf32(chars->bytes());
    std::sort(set.begin(), set.end());
    rt.step_mapping(chars->size());
  }
  const auto drop = [&](char32_t c) { return chars ? std::binary_search(set.begin(), set.end(), c) : is_space(c); };
  size_t begin = 0;
  size_t end = bytes.size();
  while (left && begin < end && drop(code_point_at(bytes, begin))) begin = next_byte(bytes, begin);
  while (right && end > begin) {
    const size_t before = previous_byte(bytes, end);
    if (!drop(code_point_at(bytes, before))) break;
    end = before;
  }
  return text.slice(begin, end);
}

MarkedText replace_text(Runtime& rt, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                        int64_t count) {
  rt.step_bytes(text.size());
  const std::string_view bytes = text.bytes();
  MarkedText out;
  size_t at = 0;
  for (int64_t done = 0; count < 0 || done < count; ++done) {
    size_t found = find_text(bytes, from.bytes(), at);
    if (from.empty()) {  // before every character and at the end
      if (done > 0 && at >= bytes.size()) break;
      found = done == 0 ? 0 : next_byte(bytes, at);
    }
    if (found == std::string_view::npos) break;
    rt.step();
    out.append(text.slice(at, found));
    out.append(to);
    rt.check_text_size(out.size());
    at = found + from.size();
  }
  out.append(text.slice(at, text.size()));
  out.set_markup(text.is_markup());
  return out;
}

std::vector<Value> split_lines(Runtime& rt, const MarkedText& text, bool keep_ends) {
  const std::string_view bytes = text.bytes();
  rt.step_mapping(bytes.size());
  std::vector<Value> out;
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const char32_t c = code_point_at(bytes, at);
    size_t next = next_byte(bytes, at);
    if (is_line_end(c)) {
      if (c == '\r' && next < bytes.size() && bytes[next] == '\n') ++next;
      out.push_back(rt.text(text.slice(begin, keep_ends ? next : at)));
      begin = next;
    }
    at = next;
  }
  if (begin < bytes.size()) out.push_back(rt.text(text.slice(begin, bytes.size())));
  return out;
}

}  // namespace fettle::text::jinja
