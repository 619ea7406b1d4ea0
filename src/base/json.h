#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fettle {

// JSON value with the strictness that files from outside need: objects keep insertion order, duplicate keys are
// refused by the parser, integers stay integers (int64 or uint64) and never turn into doubles silently.
class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;
  enum class Type { kNull, kBool, kInt, kUint, kDouble, kString, kArray, kObject };

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool v) : value_(v) {}
  Json(int v) : value_(static_cast<int64_t>(v)) {}
  Json(int64_t v) : value_(v) {}
  Json(long long v) : value_(static_cast<int64_t>(v)) {}
  Json(uint64_t v);  // stored as int64 when it fits
  Json(uint32_t v) : value_(static_cast<int64_t>(v)) {}
  Json(double v) : value_(v) {}
  Json(float v) : value_(static_cast<double>(v)) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(std::string_view v) : value_(std::string(v)) {}
  Json(Array v) : value_(std::move(v)) {}
  Json(Object v) : value_(std::move(v)) {}
  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  Type type() const { return static_cast<Type>(value_.index()); }
  const char* type_name() const;  // "object", "integer", ...
  bool is_null() const { return type() == Type::kNull; }
  bool is_bool() const { return type() == Type::kBool; }
  bool is_integer() const { return type() == Type::kInt || type() == Type::kUint; }
  bool is_number() const { return is_integer() || type() == Type::kDouble; }
  bool is_string() const { return type() == Type::kString; }
  bool is_array() const { return type() == Type::kArray; }
  bool is_object() const { return type() == Type::kObject; }

  // Unchecked-by-message accessors: throw kInternal on a wrong type. Use JsonReader for outside input.
  bool as_bool() const;
  int64_t as_int() const;
  uint64_t as_uint() const;
  double as_double() const;  // also from integers
  const std::string& as_string() const;
  const Array& as_array() const;
  Array& as_array();
  const Object& as_object() const;
  Object& as_object();

  size_t size() const;                           // members, elements or bytes; 0 for scalars
  const Json* find(std::string_view key) const;  // nullptr when absent or not an object
  Json* find(std::string_view key);
  Json& operator[](std::string_view key);  // inserts null; turns null into an object
  const Json& operator[](size_t index) const { return as_array()[index]; }
  void push_back(Json v) { as_array().push_back(std::move(v)); }
  void erase(std::string_view key);

  bool operator==(const Json& other) const = default;

  // Compact when indent < 0. Non-finite doubles become null; invalid UTF-8 becomes U+FFFD. Non-ASCII is kept.
  std::string dump(int indent = -1) const;

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, Object> value_;
};

struct JsonLimits {
  size_t max_bytes = size_t{16} << 20;
  int max_depth = 64;
};

// Parses strict JSON (UTF-8 without BOM, no trailing text). `source` is the file or field named in errors. Throws
// kInput with the byte offset for malformed text, duplicate keys, non-finite numbers and exceeded limits.
Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});
Json parse_json_file(const std::string& path, const JsonLimits& limits = {});

// Cursor over a Json value that knows where it is ("config.json: rope_scaling.factor") and gives checked access.
class JsonReader {
 public:
  JsonReader(const Json& value, std::string source) : value_(&value), source_(std::move(source)) {}

  const Json& value() const { return *value_; }
  const std::string& source() const { return source_; }
  const std::string& path() const { return path_; }
  bool has(std::string_view key) const;       // present and not null
  JsonReader at(std::string_view key) const;  // throws when absent
  JsonReader at(size_t index) const;
  JsonReader get(std::string_view key) const;  // null reader when absent
  bool is_null() const { return value_->is_null(); }

  // Typed reads; throw kInput naming source and path, expected and found.
  bool boolean() const;
  int64_t integer(int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
  double number(double lo = -1e308, double hi = 1e308) const;
  const std::string& string() const;
  const Json::Array& array() const;
  const Json::Object& object() const;

  // The same with a default when the key is absent or null.
  bool boolean_or(std::string_view key, bool fallback) const;
  int64_t integer_or(std::string_view key, int64_t fallback, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
  double number_or(std::string_view key, double fallback, double lo = -1e308, double hi = 1e308) const;
  std::string string_or(std::string_view key, std::string_view fallback) const;

  [[noreturn]] void fail_expected(std::string_view expected) const;  // "... expected X, found <type> <value>"
  [[noreturn]] void fail_here(std::string_view problem) const;

 private:
  const Json* value_;
  std::string source_;
  std::string path_;
};

}  // namespace fettle
