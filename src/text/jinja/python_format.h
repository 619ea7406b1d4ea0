#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// format % values: %s %r %a %c %d %i %u %x %X %o %e %f %g %% with flags, width, precision and (key) as in Python.
MarkedText percent_format(Runtime& rt, const MarkedText& format, const Value& values);

// format.format(...): fields with indices, names, attributes, items, conversions and nested format specifications.
MarkedText brace_format(Runtime& rt, const MarkedText& format, const Args& args);

// format(value, spec): [[fill]align][sign][#][0][width][,_][.precision][type].
MarkedText format_value(Runtime& rt, const Value& value, std::string_view spec);

// Python's int(text) and float(text); nothing when the text is no such number.
std::optional<Int> parse_integer(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);
// A float truncated towards zero; error when it is not finite or too large.
Int integer_of_float(Runtime& rt, double value);

}  // namespace fettle::text::jinja
