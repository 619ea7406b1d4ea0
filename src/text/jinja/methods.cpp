#include "text/jinja/methods.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/loop.h"
#include "text/jinja/operators.h"

namespace fettle::text::jinja {
namespace {

std::vector<Value> pairs_of(Runtime& rt, const Dict& dict) {
  std::vector<Value> out;
  out.reserve(dict.size());
  for (const auto& [key, value] : dict.entries()) out.push_back(rt.tuple({key, value}));
  return out;
}

void require_hashable(Runtime& rt, const Value& key) {
  if (!is_hashable(key)) rt.error("unhashable type: '{}'", key.type_name());
}

// dict
Value dict_get(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "get", args, {"key", "default"}, 1);
  require_hashable(rt, p[0]);
  if (const Value* found = self.dict().find(p[0])) return *found;
  return p.get(1) ? p[1] : Value();
}
Value dict_items(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "items", args, {});
  return rt.sequence(ObjectType::kItemsView, pairs_of(rt, self.dict()));
}
Value dict_keys(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "keys", args, {});
  return rt.sequence(ObjectType::kKeysView, elements(rt, self));
}
Value dict_values(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "values", args, {});
  std::vector<Value> out;
  out.reserve(self.dict().size());
  for (const auto& entry : self.dict().entries()) out.push_back(entry.second);
  return rt.sequence(ObjectType::kValuesView, std::move(out));
}
Value dict_copy(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "copy", args, {});
  Dict& copy = rt.new_dict();
  for (const auto& [key, value] : self.dict().entries()) rt.dict_set(copy, key, value);
  return Value(&copy);
}
Value dict_pop(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "pop", args, {"key", "default"}, 1);
  require_hashable(rt, p[0]);
  const Value* found = self.dict().find(p[0]);
  if (!found && !p.get(1)) rt.error("pop(): the key is missing");
  if (!found) return p[1];
  Value value = *found;
  rt.step_elements(self.dict().size());
  self.dict().erase(p[0]);
  return value;
}
Value dict_popitem(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "popitem", args, {});
  if (self.dict().size() == 0) rt.error("popitem(): dictionary is empty");
  const Dict::Entry last = self.dict().entries().back();
  rt.step_elements(self.dict().size());
  self.dict().erase(last.first);
  return rt.tuple({last.first, last.second});
}
Value dict_setdefault(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "setdefault", args, {"key", "default"}, 1);
  require_hashable(rt, p[0]);
  if (const Value* found = self.dict().find(p[0])) return *found;
  Value value = p.get(1) ? p[1] : Value();
  rt.dict_set(self.dict(), p[0], value);
  return value;
}
Value dict_update(Runtime& rt, const Value& self, const Args& args) {
  if (args.positional.size() > 1) rt.error("update() takes at most 1 positional argument");
  for (const Value& other : args.positional) {
    if (!other.is_dict()) rt.error("update() expects a dict, not {}", other.type_name());
    const std::vector<Dict::Entry> entries = other.dict().entries();  // other may be self
    for (const auto& [key, value] : entries) rt.dict_set(self.dict(), key, value);
  }
  for (const auto& [name, value] : args.named) rt.dict_set(self.dict(), rt.text(name), value);
  return {};
}
Value dict_clear(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "clear", args, {});
  self.dict().clear();
  return {};
}

// list
std::vector<Value>& items(const Value& self) { return self.sequence().items; }

// Position of an argument index, negative from the end; size when outside.
size_t position(const Value& self, int64_t index) {
  const auto size = static_cast<int64_t>(items(self).size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? items(self).size() : static_cast<size_t>(index);
}

Value list_append(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "append", args, {"object"}, 1);
  rt.grow(2 * sizeof(Value));  // a vector doubles
  items(self).push_back(p[0]);
  return {};
}
Value list_extend(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "extend", args, {"iterable"}, 1);
  const std::vector<Value> more = elements(rt, p[0]);
  rt.grow(2 * more.size() * sizeof(Value));
  items(self).insert(items(self).end(), more.begin(), more.end());
  return {};
}
Value list_insert(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "insert", args, {"index", "object"}, 2);
  const auto size = static_cast<int64_t>(items(self).size());
  const int64_t index = p.integer(0, 0);
  const int64_t at = std::clamp<int64_t>(index < 0 ? index + size : index, 0, size);
  rt.grow(2 * sizeof(Value));
  rt.step_elements(items(self).size());
  items(self).insert(items(self).begin() + at, p[1]);
  return {};
}
Value list_pop(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "pop", args, {"index"});
  const size_t at = position(self, p.integer(0, -1));
  if (at == items(self).size()) rt.error("pop(): index out of range");
  rt.step_elements(items(self).size() - at);
  Value value = items(self)[at];
  items(self).erase(items(self).begin() + static_cast<std::ptrdiff_t>(at));
  return value;
}
size_t find_element(Runtime& rt, const Value& self, const Value& wanted, const char* name) {
  for (size_t i = 0; i < items(self).size(); ++i)
    if (equals(rt, items(self)[i], wanted)) return i;
  rt.error("{}(): the value is not in the {}", name, self.type_name());
}
Value list_remove(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "remove", args, {"value"}, 1);
  const size_t at = find_element(rt, self, p[0], "remove");
  items(self).erase(items(self).begin() + static_cast<std::ptrdiff_t>(at));
  return {};
}
Value list_clear(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "clear", args, {});
  items(self).clear();
  return {};
}
Value list_reverse(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "reverse", args, {});
  rt.step_elements(items(self).size());
  std::reverse(items(self).begin(), items(self).end());
  return {};
}
Value list_sort(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "sort", args, {"reverse"});
  std::vector<Value> sorted = items(self);
  const bool reverse = p.flag(0, false);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const Value& a, const Value& b) { return reverse ? less_than(rt, b, a) : less_than(rt, a, b); });
  items(self) = std::move(sorted);
  return {};
}
Value list_copy(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "copy", args, {});
  return rt.list(items(self));
}
Value sequence_index(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "index", args, {"value"}, 1);
  return Value(find_element(rt, self, p[0], "index"));
}
Value sequence_count(Runtime& rt, const Value& self, const Args& args) {
  const Parameters p(rt, "count", args, {"value"}, 1);
  size_t total = 0;
  for (const Value& item : items(self)) total += equals(rt, item, p[0]) ? 1 : 0;
  return Value(total);
}

Value float_is_integer(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "is_integer", args, {});
  return Value(std::isfinite(self.number()) && self.number() == std::floor(self.number()));
}

Value cycler_next(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "next", args, {});
  auto& cycler = static_cast<Cycler&>(*self.object());
  const Value current = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return current;
}
Value cycler_reset(Runtime& rt, const Value& self, const Args& args) {
  const Parameters none(rt, "reset", args, {});
  static_cast<Cycler&>(*self.object()).position = 0;
  return {};
}

constexpr NamedMethod kDictMethods[] = {
    {"clear", dict_clear},   {"copy", dict_copy},     {"get", dict_get},         {"items", dict_items},
    {"keys", dict_keys},     {"pop", dict_pop},       {"popitem", dict_popitem}, {"setdefault", dict_setdefault},
    {"update", dict_update}, {"values", dict_values},
};
constexpr NamedMethod kListMethods[] = {
    {"append", list_append}, {"clear", list_clear},     {"copy", list_copy},     {"count", sequence_count},
    {"extend", list_extend}, {"index", sequence_index}, {"insert", list_insert}, {"pop", list_pop},
    {"remove", list_remove}, {"reverse", list_reverse}, {"sort", list_sort},
};
constexpr NamedMethod kTupleMethods[] = {{"count", sequence_count}, {"index", sequence_index}};
constexpr NamedMethod kCyclerMethods[] = {{"next", cycler_next}, {"reset", cycler_reset}};
constexpr NamedMethod kFloatMethods[] = {{"is_integer", float_is_integer}};

constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListChanges[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};

template <size_t N>
MethodFn find_in(const NamedMethod (&table)[N], std::string_view name) {
  for (const auto& entry : table)
    if (entry.name == name) return entry.method;
  return nullptr;
}

}  // namespace

MethodFn find_method(const Value& self, std::string_view name) {
  if (self.is_string()) return find_string_method(name);
  if (self.is_float()) return find_in(kFloatMethods, name);
  if (!self.is_object()) return nullptr;
  switch (self.object()->type) {
    case ObjectType::kDict:
      return find_in(kDictMethods, name);
    case ObjectType::kList:
      return find_in(kListMethods, name);
    case ObjectType::kTuple:
    case ObjectType::kRange:
      return find_in(kTupleMethods, name);
    case ObjectType::kCycler:
      return find_in(kCyclerMethods, name);
    default:
      return nullptr;
  }
}

bool changes_object(const Value& self, std::string_view name) {
  if (self.is_dict())
    return std::find(std::begin(kDictChanges), std::end(kDictChanges), name) != std::end(kDictChanges);
  if (self.is_list())
    return std::find(std::begin(kListChanges), std::end(kListChanges), name) != std::end(kListChanges);
  return false;
}

std::optional<Value> object_property(Runtime& rt, const Value& self, std::string_view name) {
  if (self.is_object(ObjectType::kMacro)) {
    const MacroStmt& macro = static_cast<const Macro&>(*self.object()).stmt;
    if (name == "name") return rt.text(macro.name);
    if (name == "catch_kwargs") return Value(macro.uses_kwargs);
    if (name == "catch_varargs") return Value(macro.uses_varargs);
    if (name == "caller") return Value(macro.uses_caller);
    if (name == "arguments") {
      std::vector<Value> names;
      for (const auto& parameter : macro.parameters) names.push_back(rt.text(parameter.second));
      return rt.tuple(std::move(names));
    }
  }
  if (self.is_tuple() && self.sequence().is_group && (name == "grouper" || name == "list"))
    return self.sequence().items[name == "list" ? 1 : 0];
  if (self.is_object(ObjectType::kCycler) && name == "current") {
    const auto& cycler = static_cast<const Cycler&>(*self.object());
    return cycler.items[cycler.position];
  }
  return std::nullopt;
}

}  // namespace fettle::text::jinja
