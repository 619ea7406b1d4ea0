#include "text/jinja/globals.h"

#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace fettle::text::jinja {
namespace {

Int bound(Runtime& rt, const Value& value) {
  if (value.is_undefined()) rt.undefined_error(value);
  if (!value.is_integral()) rt.error("range(): '{}' object cannot be interpreted as an integer", value.type_name());
  const Int number = value.integer();
  if (number < INT64_MIN || number > INT64_MAX) rt.error("range(): {} is out of range", integer_text(number));
  return number;
}

Value range(Runtime& rt, const Args& args) {
  if (!args.named.empty()) rt.error("range() takes no keyword arguments");
  if (args.positional.empty() || args.positional.size() > 3)
    rt.error("range() expects 1 to 3 arguments, {} given", args.positional.size());
  const bool only_stop = args.positional.size() == 1;
  const Int start = only_stop ? Int{0} : bound(rt, args.positional[0]);
  const Int stop = bound(rt, args.positional[only_stop ? 0 : 1]);
  const Int step = args.positional.size() == 3 ? bound(rt, args.positional[2]) : Int{1};
  if (step == 0) rt.error("range() step must not be zero");
  const Int distance = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  const Int count = distance <= 0 ? Int{0} : (distance + stride - 1) / stride;
  const auto limit = rt.options().limits.range_length;
  if (count > static_cast<Int>(limit))
    fail(ErrorCode::kResource, "line {}: range of {} elements, the limit is {}", rt.line(), integer_text(count), limit);
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(count));
  for (Int i = 0; i < count; ++i) items.push_back(Value(start + i * step));
  rt.step_elements(items.size());
  rt.grow(items.size() * sizeof(Value));
  return Value(&rt.make<Range>(std::move(items), start, stop, step));
}

// dict(mapping or pairs, key=value...), also the attributes of a namespace.
Value make_dict(Runtime& rt, const Args& args, ObjectType type) {
  if (args.positional.size() > 1) rt.error("dict expected at most 1 argument, got {}", args.positional.size());
  Dict& dict = rt.new_dict(type);
  for (const Value& source : args.positional) {
    if (source.is_dict()) {
      for (const auto& [key, value] : source.dict().entries()) rt.dict_set(dict, key, value);
      continue;
    }
    for (const Value& pair : elements(rt, source)) {
      const std::vector<Value> parts = elements(rt, pair);
      if (parts.size() != 2) rt.error("dict: an element has length {}, 2 is required", parts.size());
      rt.dict_set(dict, parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) rt.dict_set(dict, rt.text(name), value);
  return Value(&dict);
}

Value dict(Runtime& rt, const Args& args) { return make_dict(rt, args, ObjectType::kDict); }
Value namespace_function(Runtime& rt, const Args& args) { return make_dict(rt, args, ObjectType::kNamespace); }

Value cycler(Runtime& rt, const Args& args) {
  if (args.positional.empty()) rt.error("cycler: at least one item has to be provided");
  return Value(&rt.make<Cycler>(args.positional));
}

// A function that is silent at its first call and gives the separator afterwards.
Value joiner(Runtime& rt, const Args& args) {
  const Parameters p(rt, "joiner", args, {"sep"});
  const Value separator = p.get(0) ? p[0] : rt.text(", ");
  const auto used = std::make_shared<bool>(false);
  return rt.function("joiner", [separator, used](Runtime& inner, const Args& call_args) {
    const Parameters none(inner, "joiner", call_args, {});
    return std::exchange(*used, true) ? separator : inner.text("");
  });
}

Value raise_exception(Runtime& rt, const Args& args) {
  const Parameters p(rt, "raise_exception", args, {"message"}, 1);
  rt.raise_exception(to_text(rt, p[0]).bytes());
}

Value strftime_now(Runtime& rt, const Args& args) {
  const Parameters p(rt, "strftime_now", args, {"format"}, 1);
  std::tm now{};
  if (rt.options().now) {
    now = rt.options().now();
  } else {
    const std::time_t seconds = std::time(nullptr);
    localtime_r(&seconds, &now);
  }
  if (p.text(0).size() > 4096) rt.error("strftime_now: the format is too long");
  return rt.text(format_time(p.text(0).bytes(), now));
}

struct Global {
  std::string_view name;
  Value (*function)(Runtime&, const Args&);
};

constexpr Global kGlobals[] = {
    {"cycler", cycler},
    {"dict", dict},
    {"joiner", joiner},
    {"namespace", namespace_function},
    {"raise_exception", raise_exception},
    {"range", range},
    {"strftime_now", strftime_now},
};

}  // namespace

std::optional<Value> find_global(Runtime& rt, std::string_view name) {
  for (const Global& global : kGlobals)
    if (global.name == name) return rt.function(std::string(name), global.function);
  return std::nullopt;
}

}  // namespace fettle::text::jinja
