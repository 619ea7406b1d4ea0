#pragma once

#include <optional>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

// Python's operators on template values. Errors are kInput with the template's line.
namespace fettle::text::jinja {

bool truthy(const Value& value);

// a == b: numbers by value, strings by bytes, containers element by element, everything else by identity.
bool equals(Runtime& rt, const Value& a, const Value& b);
// a < b for numbers, strings, lists and tuples; an error for other pairs.
bool less_than(Runtime& rt, const Value& a, const Value& b);
bool compare(Runtime& rt, CompareOp op, const Value& a, const Value& b);
bool contains(Runtime& rt, const Value& container, const Value& item);

Value arithmetic(Runtime& rt, BinaryOp op, const Value& a, const Value& b);
Value negate(Runtime& rt, const Value& value);

bool is_iterable(const Value& value);
// Elements of any iterable; a generator is used up. Error for other values.
std::vector<Value> elements(Runtime& rt, const Value& value);
std::optional<size_t> length_of(const Value& value);

// object.name: methods and properties first, then items. object[key]: the other way round. Undefined when neither.
Value get_attribute(Runtime& rt, const Value& object, const std::string& name);
Value get_item(Runtime& rt, const Value& object, const Value& key);
// object[start:stop:step], null parts absent.
Value get_slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step);

// First occurrence of needle at or after `from`, or npos; linear time.
size_t find_text(std::string_view haystack, std::string_view needle, size_t from = 0);
size_t find_last_text(std::string_view haystack, std::string_view needle);
MarkedText escape_html(const MarkedText& text);

}  // namespace fettle::text::jinja
