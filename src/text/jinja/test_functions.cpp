// Tests of the template language ("x is defined"), not unit tests.
#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace fettle::text::jinja {
namespace {

void no_arguments(Runtime& rt, const Args& args) { const Parameters none(rt, "test", args, {}); }
const Value& one_argument(Runtime& rt, const Args& args) {
  const Parameters p(rt, "test", args, {"other"}, 1);
  return p[0];
}

template <bool (Value::*Check)() const>
bool kind_is(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return (v.*Check)();
}

template <CompareOp Op>
bool compares(Runtime& rt, const Value& v, const Args& args) {
  return compare(rt, Op, v, one_argument(rt, args));
}

bool defined(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return !v.is_undefined();
}
bool is_true(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_bool() && v.boolean();
}
bool is_false(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_bool() && !v.boolean();
}
bool iterable(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return is_iterable(v);
}
// Has a length and can be indexed: strings and dicts, too.
bool sequence(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_undefined() || v.is_string() || v.is_dict() || v.is_list() || v.is_tuple() ||
         v.is_object(ObjectType::kRange);
}
bool callable(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_undefined() || v.is_object(ObjectType::kFunction) || v.is_object(ObjectType::kMacro) ||
         v.is_object(ObjectType::kLoop);
}
bool divisible(Runtime& rt, const Value& v, const Value& by) {
  return !truthy(arithmetic(rt, BinaryOp::kModulo, v, by));
}
bool divisibleby(Runtime& rt, const Value& v, const Args& args) { return divisible(rt, v, one_argument(rt, args)); }
bool even(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return divisible(rt, v, Value(2));
}
bool odd(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return equals(rt, arithmetic(rt, BinaryOp::kModulo, v, Value(2)), Value(1));
}
bool escaped(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_string() && v.text().is_markup();
}
bool is_filter(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_string() && find_filter(v.bytes());
}
bool is_test(Runtime& rt, const Value& v, const Args& args) {
  no_arguments(rt, args);
  return v.is_string() && find_test(v.bytes());
}
// Identity. Scalars of one type and value are the same object here.
bool sameas(Runtime& rt, const Value& v, const Args& args) {
  const Value& other = one_argument(rt, args);
  if (v.is_object() || other.is_object()) return v.is_object() && other.is_object() && v.object() == other.object();
  return std::string_view(v.type_name()) == other.type_name() && equals(rt, v, other);
}
bool lower(Runtime& rt, const Value& v, const Args& args) {
  return find_string_method("islower")(rt, rt.text(to_text(rt, v)), args).boolean();
}
bool upper(Runtime& rt, const Value& v, const Args& args) {
  return find_string_method("isupper")(rt, rt.text(to_text(rt, v)), args).boolean();
}

struct NamedTest {
  std::string_view name;
  TestFn test;
};

constexpr NamedTest kTests[] = {
    {"!=", compares<CompareOp::kNotEqual>},
    {"<", compares<CompareOp::kLess>},
    {"<=", compares<CompareOp::kLessEqual>},
    {"==", compares<CompareOp::kEqual>},
    {">", compares<CompareOp::kGreater>},
    {">=", compares<CompareOp::kGreaterEqual>},
    {"boolean", kind_is<&Value::is_bool>},
    {"callable", callable},
    {"defined", defined},
    {"divisibleby", divisibleby},
    {"eq", compares<CompareOp::kEqual>},
    {"equalto", compares<CompareOp::kEqual>},
    {"escaped", escaped},
    {"even", even},
    {"false", is_false},
    {"filter", is_filter},
    {"float", kind_is<&Value::is_float>},
    {"ge", compares<CompareOp::kGreaterEqual>},
    {"greaterthan", compares<CompareOp::kGreater>},
    {"gt", compares<CompareOp::kGreater>},
    {"in", compares<CompareOp::kIn>},
    {"integer", kind_is<&Value::is_int>},
    {"iterable", iterable},
    {"le", compares<CompareOp::kLessEqual>},
    {"lessthan", compares<CompareOp::kLess>},
    {"lower", lower},
    {"lt", compares<CompareOp::kLess>},
    {"mapping", kind_is<&Value::is_dict>},
    {"ne", compares<CompareOp::kNotEqual>},
    {"none", kind_is<&Value::is_none>},
    {"number", kind_is<&Value::is_number>},
    {"odd", odd},
    {"sameas", sameas},
    {"sequence", sequence},
    {"string", kind_is<&Value::is_string>},
    {"test", is_test},
    {"true", is_true},
    {"undefined", kind_is<&Value::is_undefined>},
    {"upper", upper},
};

}  // namespace

TestFn find_test(std::string_view name) {
  for (const auto& entry : kTests)
    if (entry.name == name) return entry.test;
  return nullptr;
}

}  // namespace fettle::text::jinja
