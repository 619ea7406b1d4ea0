#include <algorithm>
#include <cmath>

#include "text/jinja/filters.h"
#include "text/jinja/from_json.h"
#include "text/jinja/methods.h"
#include "text/jinja/number_format.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"
#include "text/jinja/python_format.h"

namespace fettle::text::jinja {
namespace {

Value default_filter(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "default", args, {"default_value", "boolean"});
  const bool replace = input.is_undefined() || (p.flag(1, false) && !truthy(input));
  if (!replace) return input;
  return p.get(0) ? p[0] : rt.text("");
}

Value length(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "length", args, {});
  if (input.is_string()) rt.step_bytes(input.bytes().size());
  const auto size = length_of(input);
  if (!size) rt.error("object of type '{}' has no length", input.type_name());
  return Value(*size);
}

Value integer(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "int", args, {"default", "base"});
  if (input.is_undefined()) rt.undefined_error(input);
  const Value fallback = p.get(0) ? p[0] : Value(0);
  if (input.is_integral()) return Value(input.integer());
  if (input.is_float()) return std::isfinite(input.number()) ? Value(integer_of_float(rt, input.number())) : fallback;
  if (!input.is_string()) return fallback;
  rt.step_mapping(input.bytes().size());
  const auto base = static_cast<int>(std::clamp<int64_t>(p.integer(1, 10), -1, 99));
  if (const auto value = parse_integer(input.bytes(), base)) return Value(*value);
  const auto real = parse_float(input.bytes());
  return real && std::isfinite(*real) ? Value(integer_of_float(rt, *real)) : fallback;
}

Value real(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "float", args, {"default"});
  if (input.is_undefined()) rt.undefined_error(input);
  if (input.is_number()) return Value(input.number());
  if (input.is_string()) {
    rt.step_mapping(input.bytes().size());
    if (const auto value = parse_float(input.bytes())) return Value(*value);
  }
  return p.get(0) ? p[0] : Value(0.0);
}

Value absolute(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "abs", args, {});
  if (input.is_float()) return Value(std::abs(input.number()));
  if (!input.is_integral()) {
    if (input.is_undefined()) rt.undefined_error(input);
    rt.error("bad operand type for abs(): '{}'", input.type_name());
  }
  return input.integer() < 0 ? negate(rt, input) : Value(input.integer());
}

// Python's round(): to the nearest decimal of the exact binary value, ties to even.
double round_float(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 330) return value;
  if (precision < -330) return std::copysign(0.0, value);
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / unit) * unit;
  }
  return parse_float(fmt::format("{:.{}f}", value, precision)).value_or(value);
}

Int round_integer(Runtime& rt, Int value, int64_t precision) {
  if (precision >= 0) return value;
  if (precision < -38) return 0;
  Int unit = 1;
  for (int64_t i = 0; i < -precision; ++i) unit *= 10;
  const Int below = value / unit * unit - (value % unit < 0 ? unit : 0);
  const Int rest = value - below;
  const bool up = rest * 2 > unit || (rest * 2 == unit && below / unit % 2 != 0);
  Int out = 0;
  if (__builtin_add_overflow(below, up ? unit : Int{0}, &out)) rt.error("integer result is too large");
  return out;
}

Value round_filter(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "round", args, {"precision", "method"});
  if (input.is_undefined()) rt.undefined_error(input);
  if (!input.is_number()) rt.error("type {} cannot be rounded", input.type_name());
  const int64_t precision = p.integer(0, 0);
  const std::string method = p.get(1) ? p.text(1).bytes() : "common";
  if (method == "common")
    return input.is_float() ? Value(round_float(input.number(), precision))
                            : Value(round_integer(rt, input.integer(), precision));
  if (method != "ceil" && method != "floor") rt.error("method must be common, ceil or floor");
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.number() * unit;
  // Python's ceil and floor give integers: no negative zero.
  return Value(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) / unit);
}

Value tojson(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = p.flag(0, false);
  style.sort_keys = p.flag(3, false);
  style.pretty = p.has(1);
  if (style.pretty) {
    style.item_separator = ",";
    style.indent = p[1].is_string()
                       ? p[1].bytes()
                       : std::string(static_cast<size_t>(std::clamp<int64_t>(p.integer(1, 0), 0, 4096)), ' ');
  }
  if (p.has(2)) {
    const std::vector<Value> separators = elements(rt, p[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
      rt.error("tojson: 'separators' must be a pair of strings");
    style.item_separator = separators[0].bytes();
    style.key_separator = separators[1].bytes();
  }
  if (input.is_undefined()) rt.undefined_error(input);
  return rt.text(to_json(rt, input, style));
}

Value from_json_filter(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "from_json", args, {});
  if (!input.is_string()) rt.error("filter 'from_json' expects a string, not {}", input.type_name());
  rt.step_mapping(input.bytes().size());
  try {
    return from_json(rt, parse_json(input.bytes(), "from_json"), input.text().any_input());
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInput) throw;
    rt.error("{}", e.what());
  }
}

Value attr(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "attr", args, {"name"}, 1);
  if (input.is_undefined()) rt.undefined_error(input);
  const std::string name = to_text(rt, p[0]).bytes();
  if (input.is_dict() && !find_method(input, name))
    return Value::undefined("'dict object' has no attribute '" + printable(name, 80) + "'");
  return get_attribute(rt, input, name);
}

Value filesizeformat(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "filesizeformat", args, {"binary"});
  double bytes = 0;
  if (input.is_number())
    bytes = input.number();
  else if (const auto parsed = input.is_string() ? parse_float(input.bytes()) : std::nullopt)
    bytes = *parsed;
  else
    rt.error("filesizeformat expects a number, not {}", input.type_name());
  const bool binary = p.flag(0, false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return rt.text("1 Byte");
  if (bytes < base) return rt.text(fmt::format("{:.0f} Bytes", std::trunc(bytes)));
  double unit = base;
  const std::string_view letters = binary ? "KMGTPEZY" : "kMGTPEZY";
  for (const char letter : letters) {
    unit *= base;
    if (bytes < unit || letter == 'Y')
      return rt.text(fmt::format("{:.1f} {}{}", base * bytes / unit, letter, binary ? "iB" : "B"));
  }
  return {};
}

constexpr NamedFilter kFilters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"count", length},
    {"d", default_filter},
    {"default", default_filter},
    {"filesizeformat", filesizeformat},
    {"float", real},
    {"from_json", from_json_filter},
    {"int", integer},
    {"length", length},
    {"round", round_filter},
    {"tojson", tojson},
};

}  // namespace

FilterTable general_filters() { return {std::begin(kFilters), std::end(kFilters)}; }

FilterFn find_filter(std::string_view name) {
  for (const FilterTable& table : {text_filters(), sequence_filters(), general_filters()})
    for (const NamedFilter* entry = table.begin; entry != table.end; ++entry)
      if (entry->name == name) return entry->filter;
  return nullptr;
}

}  // namespace fettle::text::jinja
