#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

using MethodFn = Value (*)(Runtime& rt, const Value& self, const Args& args);

struct NamedMethod {
  std::string_view name;
  MethodFn method;
};

// Python's methods of strings, dicts, lists, tuples, ranges and floats; null when the type has no such method.
MethodFn find_method(const Value& self, std::string_view name);
MethodFn find_string_method(std::string_view name);
MethodFn find_string_test_method(std::string_view name);  // isalpha ...
// Whether the method changes its list or dict: what Sandbox::kStrict refuses.
bool changes_object(const Value& self, std::string_view name);
// Attributes of macros and cyclers that are plain values.
std::optional<Value> object_property(Runtime& rt, const Value& self, std::string_view name);

// Shared by methods and filters of the same name.
MarkedText strip_text(Runtime& rt, const MarkedText& text, const MarkedText* chars, bool left, bool right);
MarkedText replace_text(Runtime& rt, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                        int64_t count);
std::vector<Value> split_lines(Runtime& rt, const MarkedText& text, bool keep_ends);

// Applies a mapping that does not look beyond single characters to each run of one origin.
template <typename Mapping>
MarkedText map_runs(Runtime& rt, const MarkedText& text, Mapping mapping) {
  rt.step_mapping(text.size());
  MarkedText out;
  text.for_each_run([&](std::string_view run, bool input) { out.append(mapping(run), input); });
  out.set_markup(text.is_markup());
  return out;
}
MarkedText capitalize_text(Runtime& rt, const MarkedText& text);

}  // namespace fettle::text::jinja
