#include "base/json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"

namespace fettle {

Json::Json(uint64_t v) {
  if (v <= static_cast<uint64_t>(INT64_MAX))
    value_ = static_cast<int64_t>(v);
  else
    value_ = v;
}

const char* Json::type_name() const {
  switch (type()) {
    case Type::kNull:
      return "null";
    case Type::kBool:
      return "boolean";
    case Type::kInt:
    case Type::kUint:
      return "integer";
    case Type::kDouble:
      return "number";
    case Type::kString:
      return "string";
    case Type::kArray:
      return "array";
    case Type::kObject:
      return "object";
  }
  return "?";
}

namespace {
template <typename T, typename V>
auto& get_checked(V& value, const char* wanted, const char* found) {
  auto* p = std::get_if<T>(&value);
  if (!p) fail(ErrorCode::kInternal, "JSON value is {}, not {}", found, wanted);
  return *p;
}
}  // namespace

bool Json::as_bool() const { return get_checked<bool>(value_, "boolean", type_name()); }
int64_t Json::as_int() const { return get_checked<int64_t>(value_, "int64", type_name()); }
uint64_t Json::as_uint() const {
  if (type() == Type::kUint) return std::get<uint64_t>(value_);
  return narrow<uint64_t>(as_int(), "JSON integer");
}
double Json::as_double() const {
  if (type() == Type::kInt) return static_cast<double>(std::get<int64_t>(value_));
  if (type() == Type::kUint) return static_cast<double>(std::get<uint64_t>(value_));
  return get_checked<double>(value_, "number", type_name());
}
const std::string& Json::as_string() const { return get_checked<std::string>(value_, "string", type_name()); }
const Json::Array& Json::as_array() const { return get_checked<Array>(value_, "array", type_name()); }
Json::Array& Json::as_array() { return get_checked<Array>(value_, "array", type_name()); }
const Json::Object& Json::as_object() const { return get_checked<Object>(value_, "object", type_name()); }
Json::Object& Json::as_object() { return get_checked<Object>(value_, "object", type_name()); }

size_t Json::size() const {
  if (is_array()) return as_array().size();
  if (is_object()) return as_object().size();
  if (is_string()) return as_string().size();
  return 0;
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : as_object())
    if (name == key) return &value;
  return nullptr;
}

Json* Json::find(std::string_view key) { return const_cast<Json*>(std::as_const(*this).find(key)); }

Json& Json::operator[](std::string_view key) {
  if (is_null()) value_ = Object{};
  if (Json* existing = find(key)) return *existing;
  as_object().emplace_back(std::string(key), Json());
  return as_object().back().second;
}

void Json::erase(std::string_view key) {
  std::erase_if(as_object(), [&](const Member& m) { return m.first == key; });
}

namespace {

void dump_string(std::string& out, std::string_view raw) {
  const std::string text = utf8::is_valid(raw) ? std::string(raw) : utf8::sanitize(raw);
  out += '"';
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else
          out += c;
    }
  }
  out += '"';
}

void newline(std::string& out, int indent, int depth) {
  if (indent < 0) return;
  out += '\n';
  out.append(static_cast<size_t>(indent) * depth, ' ');
}

void dump_value(std::string& out, const Json& v, int indent, int depth) {
  switch (v.type()) {
    case Json::Type::kNull:
      out += "null";
      break;
    case Json::Type::kBool:
      out += v.as_bool() ? "true" : "false";
      break;
    case Json::Type::kInt:
      out += fmt::format("{}", v.as_int());
      break;
    case Json::Type::kUint:
      out += fmt::format("{}", v.as_uint());
      break;
    case Json::Type::kDouble: {
      const double d = v.as_double();
      if (!std::isfinite(d)) {
        out += "null";
      } else {
        std::string s = fmt::format("{}", d);  // shortest text that reads back to the same double
        if (s.find_first_of(".eE") == std::string::npos) s += ".0";
        out += s;
      }
      break;
    }
    case Json::Type::kString:
      dump_string(out, v.as_string());
      break;
    case Json::Type::kArray: {
      out += '[';
      bool first = true;
      for (const Json& e : v.as_array()) {
        if (!first) out += indent < 0 ? "," : ",";
        first = false;
        newline(out, indent, depth + 1);
        dump_value(out, e, indent, depth + 1);
      }
      if (!first) newline(out, indent, depth);
      out += ']';
      break;
    }
    case Json::Type::kObject: {
      out += '{';
      bool first = true;
      for (const auto& [key, value] : v.as_object()) {
        if (!first) out += ',';
        first = false;
        newline(out, indent, depth + 1);
        dump_string(out, key);
        out += indent < 0 ? ":" : ": ";
        dump_value(out, value, indent, depth + 1);
      }
      if (!first) newline(out, indent, depth);
      out += '}';
      break;
    }
  }
}

// Builds a Json bottom-up from nlohmann's SAX events; refuses duplicate keys and too deep nesting as they appear.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(int max_depth) : max_depth_(max_depth) {}

  bool null() override { return add(Json()); }
  bool boolean(bool v) override { return add(Json(v)); }
  bool number_integer(number_integer_t v) override { return add(Json(static_cast<int64_t>(v))); }
  bool number_unsigned(number_unsigned_t v) override { return add(Json(static_cast<uint64_t>(v))); }
  bool number_float(number_float_t v, const string_t& text) override {
    if (!std::isfinite(v)) return problem(fmt::format("number {} is out of range", printable(text)));
    if (text.find_first_of(".eE") == std::string::npos)
      return problem(fmt::format("integer {} does not fit 64 bits", printable(text)));
    return add(Json(v));
  }
  bool string(string_t& v) override { return add(Json(std::move(v))); }
  bool binary(binary_t&) override { return problem("binary value"); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool key(string_t& v) override {
    if (!keys_.back().insert(v).second) return problem(fmt::format("duplicate key \"{}\"", printable(v)));
    names_.back() = std::move(v);
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    if (error_.empty()) error_ = fmt::format("invalid JSON at byte {}: {}", position, strip_prefix(e.what()));
    return false;
  }

  Json take() { return std::move(root_); }
  const std::string& error() const { return error_; }

 private:
  static std::string strip_prefix(std::string what) {  // "[json.exception.parse_error.101] parse error at ...: text"
    const size_t at = what.find(": ");
    return printable(at == std::string::npos ? what : what.substr(at + 2), 300);
  }
  bool problem(std::string text) {
    error_ = std::move(text);
    return false;
  }
  bool add(Json v) {
    if (stack_.empty()) {
      root_ = std::move(v);
      return true;
    }
    Json& top = stack_.back();
    if (top.is_array())
      top.as_array().push_back(std::move(v));
    else
      top.as_object().emplace_back(std::move(names_.back()), std::move(v));
    return true;
  }
  bool open(Json container) {
    if (static_cast<int>(stack_.size()) >= max_depth_)
      return problem(fmt::format("nesting deeper than {}", max_depth_));
    stack_.push_back(std::move(container));
    names_.emplace_back();
    keys_.emplace_back();
    return true;
  }
  bool close() {
    Json done = std::move(stack_.back());
    stack_.pop_back();
    names_.pop_back();
    keys_.pop_back();
    return add(std::move(done));
  }

  int max_depth_;
  Json root_;
  std::vector<Json> stack_;
  std::vector<std::string> names_;  // pending key per open container
  std::vector<std::unordered_set<std::string>> keys_;
  std::string error_;
};

}  // namespace

std::string Json::dump(int indent) const {
  std::string out;
  dump_value(out, *this, indent, 0);
  return out;
}

Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail(ErrorCode::kInput, "{}: JSON text of {} bytes exceeds the limit of {}", source, text.size(), limits.max_bytes);
  if (text.starts_with("\xEF\xBB\xBF"))
    fail(ErrorCode::kInput, "{}: starts with a byte order mark; expected plain UTF-8", source);
  if (const size_t bad = utf8::first_invalid(text); bad != std::string_view::npos)
    fail(ErrorCode::kInput, "{}: invalid UTF-8 at byte {}", source, bad);
  Builder builder(limits.max_depth);
  const bool ok = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (!ok || !builder.error().empty()) fail(ErrorCode::kInput, "{}: {}", source, builder.error());
  return builder.take();
}

Json parse_json_file(const std::string& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path, limits);
}

bool JsonReader::has(std::string_view key) const {
  const Json* v = value_->find(key);
  return v && !v->is_null();
}

JsonReader JsonReader::get(std::string_view key) const {
  static const Json kNull;
  const Json* v = value_->find(key);
  JsonReader child(v ? *v : kNull, source_);
  child.path_ = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  return child;
}

JsonReader JsonReader::at(std::string_view key) const {
  if (!value_->is_object()) fail_expected("object");
  if (!value_->find(key))
    fail(ErrorCode::kInput, "{}: {}{}: missing", source_, path_.empty() ? "" : path_ + ".", printable(key));
  return get(key);
}

JsonReader JsonReader::at(size_t index) const {
  const Json::Array& a = array();
  if (index >= a.size())
    fail(ErrorCode::kInput, "{}: {}: has {} elements, index {} needed", source_, path_, a.size(), index);
  JsonReader child(a[index], source_);
  child.path_ = fmt::format("{}[{}]", path_, index);
  return child;
}

void JsonReader::fail_expected(std::string_view expected) const {
  fail(ErrorCode::kInput, "{}: {}: expected {}, found {}{}", source_, path_.empty() ? "(top level)" : printable(path_),
       expected, value_->type_name(),
       value_->is_array() || value_->is_object() || value_->is_null() ? "" : " " + printable(value_->dump(), 80));
}

void JsonReader::fail_here(std::string_view problem) const {
  fail(ErrorCode::kInput, "{}: {}: {}", source_, path_.empty() ? "(top level)" : printable(path_), problem);
}

bool JsonReader::boolean() const {
  if (!value_->is_bool()) fail_expected("boolean");
  return value_->as_bool();
}

int64_t JsonReader::integer(int64_t lo, int64_t hi) const {
  if (value_->type() != Json::Type::kInt) fail_expected(fmt::format("integer in [{}, {}]", lo, hi));
  const int64_t v = value_->as_int();
  if (v < lo || v > hi) fail_expected(fmt::format("integer in [{}, {}]", lo, hi));
  return v;
}

double JsonReader::number(double lo, double hi) const {
  if (!value_->is_number()) fail_expected("number");
  const double v = value_->as_double();
  if (!(v >= lo && v <= hi)) fail_expected(fmt::format("number in [{}, {}]", lo, hi));
  return v;
}

const std::string& JsonReader::string() const {
  if (!value_->is_string()) fail_expected("string");
  return value_->as_string();
}

const Json::Array& JsonReader::array() const {
  if (!value_->is_array()) fail_expected("array");
  return value_->as_array();
}

const Json::Object& JsonReader::object() const {
  if (!value_->is_object()) fail_expected("object");
  return value_->as_object();
}

bool JsonReader::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? get(key).boolean() : fallback;
}
int64_t JsonReader::integer_or(std::string_view key, int64_t fallback, int64_t lo, int64_t hi) const {
  return has(key) ? get(key).integer(lo, hi) : fallback;
}
double JsonReader::number_or(std::string_view key, double fallback, double lo, double hi) const {
  return has(key) ? get(key).number(lo, hi) : fallback;
}
std::string JsonReader::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? get(key).string() : std::string(fallback);
}

}  // namespace fettle
