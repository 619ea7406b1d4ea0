#include "text/jinja/loop.h"

#include "text/jinja/operators.h"

namespace fettle::text::jinja {
namespace {

Value cycle(Runtime& rt, const Loop& loop, const Args& args) {
  if (args.positional.empty()) rt.error("loop.cycle(): no items for cycling given");
  return args.positional[loop.index0 % args.positional.size()];
}

bool changed(Runtime& rt, Loop& loop, const Args& args) {
  bool same = loop.last_changed && loop.last_changed->size() == args.positional.size();
  for (size_t i = 0; same && i < args.positional.size(); ++i)
    same = equals(rt, (*loop.last_changed)[i], args.positional[i]);
  if (!same) loop.last_changed = args.positional;
  return !same;
}

}  // namespace

std::optional<Value> loop_attribute(Runtime& rt, Loop& loop, std::string_view name) {
  const size_t i = loop.index0;
  const size_t n = loop.length;
  if (name == "index") return Value(i + 1);
  if (name == "index0") return Value(i);
  if (name == "first") return Value(i == 0);
  if (name == "last") return Value(i + 1 >= n);
  if (name == "length") return Value(n);
  if (name == "revindex") return Value(n - i);
  if (name == "revindex0") return Value(static_cast<Int>(n) - static_cast<Int>(i) - 1);
  if (name == "previtem")
    return i > 0 && i <= loop.items.size() ? loop.items[i - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return i + 1 < loop.items.size() ? loop.items[i + 1] : Value::undefined("there is no next item");
  if (name == "depth") return Value(loop.depth);
  if (name == "depth0") return Value(loop.depth - 1);
  Loop* self = &loop;
  if (name == "cycle")
    return rt.function("cycle", [self](Runtime& r, const Args& args) { return cycle(r, *self, args); });
  if (name == "changed")
    return rt.function("changed", [self](Runtime& r, const Args& args) { return Value(changed(r, *self, args)); });
  return std::nullopt;
}

}  // namespace fettle::text::jinja
