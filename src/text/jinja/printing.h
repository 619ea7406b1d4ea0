#pragma once

#include <string>

#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// str(value) of Python; strings keep their origins, undefined is empty.
MarkedText to_text(Runtime& rt, const Value& value);
// repr(value), appended. Text quoted from a string carries the string's origin.
void append_repr(Runtime& rt, const Value& value, MarkedText& out);

std::string float_repr(double value);  // shortest text that reads back, 1e+16 from 1e16 on
std::string integer_text(Int value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;  // indent given, even as ""
  std::string indent;   // per level
  std::string item_separator = ", ", key_separator = ": ";
};
// json.dumps of Python. The whole text counts as input when any string in it does: it has no part that the template
// wrote, and few origins keep the tokenizer's pieces long. Error for values JSON has no form for.
MarkedText to_json(Runtime& rt, const Value& value, const JsonStyle& style);

}  // namespace fettle::text::jinja
