#include <fmt/format.h>

#include "text/jinja/characters.h"
#include "text/jinja/loop.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"

namespace fettle::text::jinja {
namespace {

std::string describe(const Value& object) {
  return object.is_none() ? "'None'" : fmt::format("'{} object'", object.type_name());
}

Value no_attribute(const Value& object, const std::string& name) {
  return Value::undefined(fmt::format("{} has no attribute '{}'", describe(object), printable(name, 80)));
}

// Position of element `index` (negative from the end) among `size`, or size when there is none.
size_t element_position(Int index, size_t size) {
  if (index < 0) index += static_cast<Int>(size);
  return index < 0 || index >= static_cast<Int>(size) ? size : static_cast<size_t>(index);
}

Value character_at(Runtime& rt, const MarkedText& text, Int index) {
  rt.step_bytes(text.size());
  const size_t size = code_points(text.bytes());
  const size_t at = element_position(index, size);
  if (at == size) return Value::undefined("'str object' has no element " + integer_text(index));
  const size_t begin = byte_offset(text.bytes(), at);
  return rt.text(text.slice(begin, next_byte(text.bytes(), begin)));
}

// The item object[key], or nothing when Python would raise TypeError or LookupError.
std::optional<Value> find_item(Runtime& rt, const Value& object, const Value& key) {
  if (object.is_dict()) {
    if (!is_hashable(key)) return std::nullopt;
    const Value* found = object.dict().find(key);
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  if (!key.is_integral()) return std::nullopt;
  if (object.is_string()) {
    Value character = character_at(rt, object.text(), key.integer());
    return character.is_undefined() ? std::nullopt : std::optional<Value>(std::move(character));
  }
  if (!object.is_list() && !object.is_tuple() && !object.is_object(ObjectType::kRange)) return std::nullopt;
  const auto& items = object.sequence().items;
  const size_t at = element_position(key.integer(), items.size());
  return at == items.size() ? std::nullopt : std::optional<Value>(items[at]);
}

// Attributes that are not items: methods, loop variables, namespace entries.
std::optional<Value> find_attribute(Runtime& rt, const Value& object, std::string_view name) {
  if (object.is_object(ObjectType::kNamespace)) {
    const Value* found = object.dict().find(name);
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  if (object.is_object(ObjectType::kLoop)) return loop_attribute(rt, static_cast<Loop&>(*object.object()), name);
  const MethodFn method = find_method(object, name);
  if (!method) return object_property(rt, object, name);
  if (rt.options().sandbox == Sandbox::kStrict && changes_object(object, name))
    return Value::undefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, object.type_name()));
  return rt.function(std::string(name),
                     [object, method](Runtime& inner, const Args& args) { return method(inner, object, args); });
}

// Resolved bounds of a Python slice over `size` elements.
struct SliceRange {
  Int start, stop, step;
};

Int clamp_bound(Int bound, Int size, bool backwards) {
  if (bound < 0) bound += size;
  const Int lowest = backwards ? -1 : 0;
  const Int highest = backwards ? size - 1 : size;
  return bound < lowest ? lowest : bound > highest ? highest : bound;
}

SliceRange resolve_slice(size_t length, const Value& start, const Value& stop, const Value& step) {
  const Int size = static_cast<Int>(length);
  const Int wanted = step.is_none() ? Int{1} : step.integer();
  // Longer strides take one element as well, and index arithmetic stays in range.
  const Int stride = wanted > size ? size + 1 : wanted < -size ? -size - 1 : wanted;
  const bool backwards = stride < 0;
  SliceRange range{backwards ? size - 1 : Int{0}, backwards ? Int{-1} : size, stride};
  if (!start.is_none()) range.start = clamp_bound(start.integer(), size, backwards);
  if (!stop.is_none()) range.stop = clamp_bound(stop.integer(), size, backwards);
  return range;
}

Value slice_text(Runtime& rt, const MarkedText& text, const SliceRange& range) {
  rt.step_bytes(text.size());
  if (range.step == 1) {
    if (range.start >= range.stop) return rt.text("");
    const size_t begin = byte_offset(text.bytes(), static_cast<size_t>(range.start));
    const std::string_view rest = std::string_view(text.bytes()).substr(begin);
    const size_t end = begin + byte_offset(rest, static_cast<size_t>(range.stop - range.start));
    return rt.text(text.slice(begin, end));
  }
  rt.step_mapping(text.size());
  std::vector<size_t> offsets;
  for (size_t at = 0; at < text.size(); at = next_byte(text.bytes(), at)) offsets.push_back(at);
  offsets.push_back(text.size());
  MarkedText out;
  for (Int i = range.start; range.step > 0 ? i < range.stop : i > range.stop; i += range.step) {
    const auto at = static_cast<size_t>(i);
    out.append(text.slice(offsets[at], offsets[at + 1]));
  }
  out.set_markup(text.is_markup());
  return rt.text(std::move(out));
}

std::vector<Value> characters_of(Runtime& rt, const MarkedText& text) {
  std::vector<Value> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = next_byte(text.bytes(), at);
    rt.step();
    out.push_back(rt.text(text.slice(at, end)));
    at = end;
  }
  return out;
}

}  // namespace

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_dict() || value.is_sequence_object();
}

std::vector<Value> elements(Runtime& rt, const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_string()) return characters_of(rt, value.text());
  if (value.is_dict()) {
    std::vector<Value> keys;
    rt.step_elements(value.dict().size());
    keys.reserve(value.dict().size());
    for (const auto& entry : value.dict().entries()) keys.push_back(entry.first);
    return keys;
  }
  if (!value.is_sequence_object()) rt.error("'{}' object is not iterable", value.type_name());
  Sequence& sequence = value.sequence();
  rt.step_elements(sequence.items.size());
  const auto taken = static_cast<std::ptrdiff_t>(sequence.consumed);
  if (sequence.type == ObjectType::kGenerator) sequence.consumed = sequence.items.size();
  return {sequence.items.begin() + taken, sequence.items.end()};
}

std::optional<size_t> length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_string()) return code_points(value.bytes());
  if (value.is_dict()) return value.dict().size();
  if (value.is_object(ObjectType::kLoop)) return static_cast<const Loop&>(*value.object()).length;
  if (value.is_sequence_object() && !value.is_object(ObjectType::kGenerator)) return value.sequence().items.size();
  return std::nullopt;
}

Value get_attribute(Runtime& rt, const Value& object, const std::string& name) {
  if (object.is_undefined()) rt.undefined_error(object);
  if (auto attribute = find_attribute(rt, object, name)) return *std::move(attribute);
  if (object.is_dict())
    if (const Value* found = object.dict().find(std::string_view(name))) return *found;
  return no_attribute(object, name);
}

Value get_item(Runtime& rt, const Value& object, const Value& key) {
  if (object.is_undefined()) rt.undefined_error(object);
  if (auto item = find_item(rt, object, key)) return *std::move(item);
  if (key.is_string()) {
    if (auto attribute = find_attribute(rt, object, key.bytes())) return *std::move(attribute);
    return no_attribute(object, key.bytes());
  }
  if (key.is_integral())
    return Value::undefined(fmt::format("{} has no element {}", describe(object), integer_text(key.integer())));
  return Value::undefined(fmt::format("{} has no such element", describe(object)));
}

Value get_slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) rt.undefined_error(object);
  const bool sliceable =
      object.is_string() || object.is_list() || object.is_tuple() || object.is_object(ObjectType::kRange);
  if (!sliceable) rt.error("'{}' object cannot be sliced", object.type_name());
  for (const Value* bound : {&start, &stop, &step})
    if (!bound->is_none() && !bound->is_integral()) rt.error("slice indices must be integers or None");
  if (!step.is_none() && step.integer() == 0) rt.error("slice step cannot be zero");
  const size_t length = object.is_string() ? code_points(object.bytes()) : object.sequence().items.size();
  const SliceRange range = resolve_slice(length, start, stop, step);
  if (object.is_string()) return slice_text(rt, object.text(), range);
  std::vector<Value> items;
  for (Int i = range.start; range.step > 0 ? i < range.stop : i > range.stop; i += range.step)
    items.push_back(object.sequence().items[static_cast<size_t>(i)]);
  if (object.is_object(ObjectType::kRange)) {
    const auto& whole = static_cast<const Range&>(*object.object());
    rt.step_elements(items.size());
    rt.grow(items.size() * sizeof(Value));
    return Value(&rt.make<Range>(std::move(items), whole.start + range.start * whole.step,
                                 whole.start + range.stop * whole.step, whole.step * range.step));
  }
  return rt.sequence(object.object()->type, std::move(items));
}

}  // namespace fettle::text::jinja
