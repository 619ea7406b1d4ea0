#include "text/jinja/from_json.h"

#include "base/utf8.h"

namespace fettle::text::jinja {
namespace {

constexpr int kMaxDepth = 128;  // twice what the JSON parser lets through

Value convert(Runtime& rt, const Json& json, bool from_input, int depth) {
  if (depth > kMaxDepth) rt.error("context nests deeper than {}", kMaxDepth);
  rt.step_elements(1);
  switch (json.type()) {
    case Json::Type::kNull:
      return {};
    case Json::Type::kBool:
      return Value(json.as_bool());
    case Json::Type::kInt:
      return Value(static_cast<Int>(json.as_int()));
    case Json::Type::kUint:
      return Value(static_cast<Int>(json.as_uint()));
    case Json::Type::kDouble:
      return Value(json.as_double());
    case Json::Type::kString:
      return rt.text(utf8::sanitize(json.as_string()), from_input);
    case Json::Type::kArray: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json.as_array()) items.push_back(convert(rt, item, from_input, depth + 1));
      return rt.list(std::move(items));
    }
    case Json::Type::kObject: {
      Dict& dict = rt.new_dict();
      for (const auto& [key, value] : json.as_object())
        rt.dict_set(dict, rt.text(utf8::sanitize(key), from_input), convert(rt, value, from_input, depth + 1));
      return Value(&dict);
    }
  }
  return {};
}

}  // namespace

Value from_json(Runtime& rt, const Json& json, bool from_input) { return convert(rt, json, from_input, 0); }

}  // namespace fettle::text::jinja
