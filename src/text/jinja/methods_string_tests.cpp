// str.isalpha() and its like.
#include "text/jinja/characters.h"
#include "text/jinja/methods.h"

namespace fettle::text::jinja {
namespace {

// str.isX(): every character is of the class and there is at least one.
template <bool (*Class)(char32_t)>
Value all_are(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "string test", args, {});
  const std::string_view text = self.bytes();
  rt.step_mapping(text.size());
  for (size_t at = 0; at < text.size(); at = next_byte(text, at))
    if (!Class(code_point_at(text, at))) return Value(false);
  return Value(!text.empty());
}

// At least one cased character, and none of the other case.
template <bool (*Wanted)(char32_t), bool (*Other)(char32_t)>
Value cased_as(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "string test", args, {});
  const std::string_view text = self.bytes();
  rt.step_mapping(text.size());
  bool any = false;
  for (size_t at = 0; at < text.size(); at = next_byte(text, at)) {
    const char32_t c = code_point_at(text, at);
    if (Other(c) || is_title(c)) return Value(false);
    any |= Wanted(c);
  }
  return Value(any);
}

Value istitle(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "istitle", args, {});
  const std::string_view text = self.bytes();
  rt.step_mapping(text.size());
  bool any = false;
  bool after_cased = false;
  for (size_t at = 0; at < text.size(); at = next_byte(text, at)) {
    const char32_t c = code_point_at(text, at);
    const bool starts = is_upper(c) || is_title(c);
    if (starts ? after_cased : is_lower(c) && !after_cased) return Value(false);
    after_cased = starts || is_lower(c);
    any |= after_cased;
  }
  return Value(any);
}

bool is_ascii_character(char32_t c) { return c < 0x80; }
Value isascii(Runtime& rt, const Value& self, const Args& args) {
  return Value(self.text().empty() || all_are<is_ascii_character>(rt, self, args).boolean());
}
Value isprintable(Runtime& rt, const Value& self, const Args& args) {
  return Value(self.text().empty() || all_are<is_printable>(rt, self, args).boolean());
}
Value isidentifier(Runtime& rt, const Value& self, const Args& args) {
  return Value(all_are<is_identifier_part>(rt, self, args).boolean() &&
               is_identifier_start(code_point_at(self.bytes(), 0)));
}

constexpr NamedMethod kMethods[] = {
    {"isalnum", all_are<is_alnum>},
    {"isalpha", all_are<is_alpha>},
    {"isascii", isascii},
    {"isdecimal", all_are<is_decimal>},
    {"isdigit", all_are<is_digit>},
    {"isidentifier", isidentifier},
    {"islower", cased_as<is_lower, is_upper>},
    {"isnumeric", all_are<is_numeric>},
    {"isprintable", isprintable},
    {"isspace", all_are<is_space>},
    {"istitle", istitle},
    {"isupper", cased_as<is_upper, is_lower>},
};

}  // namespace

MethodFn find_string_test_method(std::string_view name) {
  for (const auto& entry : kMethods)
    if (entry.name == name) return entry.method;
  return nullptr;
}

}  // namespace fettle::text::jinja
