#pragma once

#include <string>
#include <string_view>

#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// A parsed format specification; also what a %-conversion turns into.
struct FormatSpec {
  std::string fill = " ";  // one code point
  char align = '\0';       // < > ^ =, 0: the type's default
  char sign = '-';         // - + or space
  bool alternate = false;  // #
  bool zero = false;
  size_t width = 0;
  char grouping = '\0';  // , or _
  int precision = -1;
  char type = '\0';
};

inline constexpr int kMaxPrecision = 4096;

FormatSpec parse_format_spec(Runtime& rt, std::string_view spec);

std::string format_integer(Runtime& rt, Int value, const FormatSpec& spec);
std::string format_float(Runtime& rt, double value, const FormatSpec& spec);
MarkedText format_text(Runtime& rt, const MarkedText& text, const FormatSpec& spec);

// Pads to spec.width code points.
MarkedText pad(Runtime& rt, const MarkedText& text, const FormatSpec& spec, char default_align);

}  // namespace fettle::text::jinja
