#include "text/jinja/operators.h"

#include <cmath>
#include <cstring>

#include "text/jinja/python_format.h"

namespace fettle::text::jinja {
namespace {

constexpr int kMaxCompareDepth = 200;

struct DepthGuard {
  DepthGuard(Runtime& rt, int& depth) : depth_(depth) {
    if (++depth_ > kMaxCompareDepth) rt.error("values nest too deeply to compare");
  }
  ~DepthGuard() { --depth_; }
  int& depth_;
};

bool equals_at(Runtime& rt, const Value& a, const Value& b, int depth);

bool sequences_equal(Runtime& rt, const Sequence& a, const Sequence& b, int depth) {
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!equals_at(rt, a.items[i], b.items[i], depth)) return false;
  return true;
}

bool dicts_equal(Runtime& rt, const Dict& a, const Dict& b, int depth) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (!other || !equals_at(rt, value, *other, depth)) return false;
  }
  return true;
}

bool numbers_equal(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  return a.number() == b.number();
}

bool equals_at(Runtime& rt, const Value& a, const Value& b, int depth) {
  const DepthGuard guard(rt, depth);
  rt.step();
  if (a.is_number() && b.is_number()) return numbers_equal(a, b);
  if (a.is_string() && b.is_string()) {
    rt.step_bytes(a.bytes().size());
    return a.bytes() == b.bytes();
  }
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (!a.is_object() || !b.is_object()) return false;
  if (a.object() == b.object()) return true;
  if (a.object()->type != b.object()->type) return false;
  switch (a.object()->type) {
    case ObjectType::kList:
    case ObjectType::kTuple:
    case ObjectType::kRange:
    case ObjectType::kKeysView:
    case ObjectType::kItemsView:
      return sequences_equal(rt, a.sequence(), b.sequence(), depth);
    case ObjectType::kDict:
      return dicts_equal(rt, a.dict(), b.dict(), depth);
    default:
      return false;
  }
}

bool less_at(Runtime& rt, const Value& a, const Value& b, int depth) {
  const DepthGuard guard(rt, depth);
  rt.step();
  if (a.is_undefined()) rt.undefined_error(a);
  if (b.is_undefined()) rt.undefined_error(b);
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is_string() && b.is_string()) {
    rt.step_bytes(a.bytes().size());
    return a.bytes() < b.bytes();  // UTF-8 sorts as its code points
  }
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    const auto& left = a.sequence().items;
    const auto& right = b.sequence().items;
    for (size_t i = 0; i < left.size() && i < right.size(); ++i)
      if (!equals_at(rt, left[i], right[i], depth)) return less_at(rt, left[i], right[i], depth);
    return left.size() < right.size();
  }
  rt.error("cannot order values of type '{}' and '{}'", a.type_name(), b.type_name());
}

[[noreturn]] void unsupported(Runtime& rt, const char* op, const Value& a, const Value& b) {
  if (a.is_undefined()) rt.undefined_error(a);
  if (b.is_undefined()) rt.undefined_error(b);
  rt.error("unsupported operand types for {}: '{}' and '{}'", op, a.type_name(), b.type_name());
}

[[noreturn]] void overflow(Runtime& rt) { rt.error("integer result is too large"); }

Value join_texts(Runtime& rt, const MarkedText& a, const MarkedText& b) {
  rt.check_text_size(a.size() + b.size());
  const bool markup = a.is_markup() || b.is_markup();
  MarkedText out = markup && !a.is_markup() ? escape_html(a) : a;
  out.append(markup && !b.is_markup() ? escape_html(b) : b);
  out.set_markup(markup);
  return rt.text(std::move(out));
}

Value add(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    Int sum = 0;
    if (__builtin_add_overflow(a.integer(), b.integer(), &sum)) overflow(rt);
    return Value(sum);
  }
  if (a.is_number() && b.is_number()) return Value(a.number() + b.number());
  if (a.is_string() && b.is_string()) return join_texts(rt, a.text(), b.text());
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    std::vector<Value> items = a.sequence().items;
    items.insert(items.end(), b.sequence().items.begin(), b.sequence().items.end());
    return rt.sequence(a.object()->type, std::move(items));
  }
  unsupported(rt, "+", a, b);
}

Value subtract(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    Int difference = 0;
    if (__builtin_sub_overflow(a.integer(), b.integer(), &difference)) overflow(rt);
    return Value(difference);
  }
  if (a.is_number() && b.is_number()) return Value(a.number() - b.number());
  unsupported(rt, "-", a, b);
}

// unit, count times over; count > 0.
Value repeat_text(Runtime& rt, const MarkedText& unit, Int count) {
  if (count > Int{1} << 32) rt.check_text_size(static_cast<size_t>(-1));
  const size_t total = static_cast<size_t>(count) * unit.size();
  rt.check_text_size(total);
  size_t runs = 0;
  unit.for_each_run([&runs](std::string_view, bool) { ++runs; });
  rt.step_elements(runs > 1 ? runs * static_cast<size_t>(count) : 0);
  MarkedText out = unit;
  while (out.size() * 2 <= total) out.append(MarkedText(out));
  out.append(out.slice(0, total - out.size()));
  return rt.text(std::move(out));
}

Value repeat(Runtime& rt, const Value& value, Int times) {
  const Int count = times < 0 ? 0 : times;
  if (value.is_string()) return value.text().empty() || count == 0 ? rt.text("") : repeat_text(rt, value.text(), count);
  const auto& unit = value.sequence().items;
  if (unit.empty() || count == 0) return rt.sequence(value.object()->type, {});
  if (count > Int{1} << 32) rt.grow(static_cast<size_t>(-1) / 2);
  const size_t total = static_cast<size_t>(count) * unit.size();
  rt.step_elements(total);
  std::vector<Value> items;
  items.reserve(total);
  for (Int i = 0; i < count; ++i) items.insert(items.end(), unit.begin(), unit.end());
  return rt.sequence(value.object()->type, std::move(items));
}

Value multiply(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    Int product = 0;
    if (__builtin_mul_overflow(a.integer(), b.integer(), &product)) overflow(rt);
    return Value(product);
  }
  if (a.is_number() && b.is_number()) return Value(a.number() * b.number());
  const auto repeatable = [](const Value& v) { return v.is_string() || v.is_list() || v.is_tuple(); };
  if (repeatable(a) && b.is_integral()) return repeat(rt, a, b.integer());
  if (repeatable(b) && a.is_integral()) return repeat(rt, b, a.integer());
  unsupported(rt, "*", a, b);
}

Value divide(Runtime& rt, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) unsupported(rt, "/", a, b);
  if (b.number() == 0) rt.error("division by zero");
  // Integers beyond 2^53 would be rounded before the division as doubles.
  if (a.is_integral() && b.is_integral())
    return Value(static_cast<double>(static_cast<long double>(a.integer()) / static_cast<long double>(b.integer())));
  return Value(a.number() / b.number());
}

// Quotient and remainder rounded towards minus infinity: the remainder has the sign of the divisor.
Int floor_quotient(Int a, Int b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }
double floor_remainder(double a, double b) {
  double r = std::fmod(a, b);
  if (r != 0 && (r < 0) != (b < 0)) r += b;
  return r == 0 ? std::copysign(0.0, b) : r;
}

Value floor_divide(Runtime& rt, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) unsupported(rt, "//", a, b);
  if (b.number() == 0) rt.error("integer division or modulo by zero");
  if (a.is_integral() && b.is_integral()) {
    if (b.integer() == -1) return subtract(rt, Value(0), a);  // the one quotient that can overflow
    return Value(floor_quotient(a.integer(), b.integer()));
  }
  const double quotient = std::round((a.number() - floor_remainder(a.number(), b.number())) / b.number());
  return Value(quotient == 0 ? std::copysign(0.0, a.number() / b.number()) : quotient);
}

Value modulo(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_string()) return rt.text(percent_format(rt, a.text(), b));
  if (!a.is_number() || !b.is_number()) unsupported(rt, "%", a, b);
  if (b.number() == 0) rt.error("integer division or modulo by zero");
  if (a.is_integral() && b.is_integral()) {
    if (b.integer() == -1) return Value(0);
    return Value(a.integer() - floor_quotient(a.integer(), b.integer()) * b.integer());
  }
  return Value(floor_remainder(a.number(), b.number()));
}

Value power(Runtime& rt, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) unsupported(rt, "**", a, b);
  if (!a.is_integral() || !b.is_integral() || b.integer() < 0) {
    if (a.number() == 0 && b.number() < 0) rt.error("0 cannot be raised to a negative power");
    const double result = std::pow(a.number(), b.number());
    if (std::isnan(result) && !std::isnan(a.number()) && !std::isnan(b.number())) rt.error("power has no real value");
    if (std::isinf(result) && std::isfinite(a.number()) && std::isfinite(b.number())) rt.error("result is too large");
    return Value(result);
  }
  const Int base = a.integer();
  Int exponent = b.integer();
  if (base == 0 || base == 1) return Value(exponent == 0 ? Int{1} : base);
  if (base == -1) return Value(exponent % 2 == 0 ? Int{1} : Int{-1});
  Int result = 1;
  for (; exponent > 0; --exponent)  // overflows, and stops, after at most 127 rounds
    if (__builtin_mul_overflow(result, base, &result)) overflow(rt);
  return Value(result);
}

}  // namespace

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_integral()) return value.integer() != 0;
  if (value.is_float()) return value.number() != 0;
  if (value.is_string()) return !value.text().empty();
  if (value.is_object(ObjectType::kGenerator)) return true;
  const auto length = length_of(value);
  return !length || *length > 0;
}

bool equals(Runtime& rt, const Value& a, const Value& b) { return equals_at(rt, a, b, 0); }
bool less_than(Runtime& rt, const Value& a, const Value& b) { return less_at(rt, a, b, 0); }

bool compare(Runtime& rt, CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::kEqual:
      return equals(rt, a, b);
    case CompareOp::kNotEqual:
      return !equals(rt, a, b);
    case CompareOp::kLess:
      return less_than(rt, a, b);
    case CompareOp::kLessEqual:
      return less_than(rt, a, b) || equals(rt, a, b);
    case CompareOp::kGreater:
      return less_than(rt, b, a);
    case CompareOp::kGreaterEqual:
      return less_than(rt, b, a) || equals(rt, a, b);
    case CompareOp::kIn:
      return contains(rt, b, a);
    case CompareOp::kNotIn:
      return !contains(rt, b, a);
  }
  return false;
}

bool contains(Runtime& rt, const Value& container, const Value& item) {
  if (container.is_undefined()) return false;
  if (container.is_string()) {
    if (!item.is_string()) {
      if (item.is_undefined()) rt.undefined_error(item);
      rt.error("'in <string>' requires string as left operand, not {}", item.type_name());
    }
    rt.step_bytes(container.bytes().size());
    return find_text(container.bytes(), item.bytes()) != std::string_view::npos;
  }
  if (container.is_dict() || container.is_object(ObjectType::kKeysView)) {
    if (!is_hashable(item)) rt.error("unhashable type: '{}'", item.type_name());
    if (container.is_dict()) return container.dict().find(item) != nullptr;
  }
  if (!is_iterable(container)) rt.error("argument of type '{}' is not iterable", container.type_name());
  for (const Value& element : elements(rt, container))
    if (equals(rt, element, item)) return true;
  return false;
}

Value arithmetic(Runtime& rt, BinaryOp op, const Value& a, const Value& b) {
  rt.step();
  switch (op) {
    case BinaryOp::kAdd:
      return add(rt, a, b);
    case BinaryOp::kSubtract:
      return subtract(rt, a, b);
    case BinaryOp::kMultiply:
      return multiply(rt, a, b);
    case BinaryOp::kDivide:
      return divide(rt, a, b);
    case BinaryOp::kFloorDivide:
      return floor_divide(rt, a, b);
    case BinaryOp::kModulo:
      return modulo(rt, a, b);
    case BinaryOp::kPower:
      return power(rt, a, b);
  }
  return {};
}

Value negate(Runtime& rt, const Value& value) {
  if (value.is_undefined()) rt.undefined_error(value);
  if (value.is_integral()) return subtract(rt, Value(0), value);
  if (value.is_float()) return Value(-value.number());
  rt.error("bad operand type for unary -: '{}'", value.type_name());
}

size_t find_text(std::string_view haystack, std::string_view needle, size_t from) {
  if (from > haystack.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const char* begin = haystack.data() + from;
  // glibc's memmem is the two-way algorithm: linear for every needle, unlike std::string_view::find.
  const void* found = memmem(begin, haystack.size() - from, needle.data(), needle.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - haystack.data()) : std::string_view::npos;
}

size_t find_last_text(std::string_view haystack, std::string_view needle) {
  const std::string backwards(haystack.rbegin(), haystack.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t found = find_text(backwards, reversed_needle);
  return found == std::string_view::npos ? found : haystack.size() - found - needle.size();
}

MarkedText escape_html(const MarkedText& text) {
  MarkedText out;
  text.for_each_run([&out](std::string_view run, bool input) {
    std::string escaped;
    for (const char c : run) {
      switch (c) {
        case '&':
          escaped += "&amp;";
          break;
        case '<':
          escaped += "&lt;";
          break;
        case '>':
          escaped += "&gt;";
          break;
        case '\'':
          escaped += "&#39;";
          break;
        case '"':
          escaped += "&#34;";
          break;
        default:
          escaped += c;
      }
    }
    out.append(escaped, input);
  });
  out.set_markup(true);
  return out;
}

}  // namespace fettle::text::jinja
