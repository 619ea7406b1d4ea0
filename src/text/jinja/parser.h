#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/jinja/ast.h"

namespace fettle::text::jinja {

inline constexpr size_t kMaxSourceBytes = size_t{1} << 20;
inline constexpr int kMaxNesting = 100;

// Parses a template. Throws kInput "name: line N: ..." for a syntax error, an unknown tag, filter or test, for include,
// import and extends, and kResource when the source is longer than kMaxSourceBytes or nests deeper than kMaxNesting.
std::shared_ptr<const Program> parse_template(std::string_view source, const std::string& name);

}  // namespace fettle::text::jinja
