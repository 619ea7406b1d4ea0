#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace fettle::text::jinja {

using FilterFn = Value (*)(Runtime& rt, const Value& input, const Args& args);
using TestFn = bool (*)(Runtime& rt, const Value& input, const Args& args);

// By name; null when there is no such filter or test.
FilterFn find_filter(std::string_view name);
TestFn find_test(std::string_view name);

struct NamedFilter {
  std::string_view name;
  FilterFn filter;
};

// The tables that find_filter searches, one per file.
struct FilterTable {
  const NamedFilter* begin;
  const NamedFilter* end;
};
FilterTable text_filters();
FilterTable sequence_filters();
FilterTable general_filters();

}  // namespace fettle::text::jinja
