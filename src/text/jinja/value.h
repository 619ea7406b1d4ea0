#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/marked_text.h"

// Values of the template language. They follow Python: bool is an int, strings are sequences of code points, lists and
// dicts are shared by reference. Strings are reference counted; containers belong to the Runtime of one render and are
// freed with it, so that neither cycles nor deep nesting need care.
namespace fettle::text::jinja {

// Python integers are unbounded; 128 bits hold everything JSON can carry and leave room for products. Overflow is an
// error, never a wrap.
__extension__ typedef __int128 Int;
__extension__ typedef unsigned __int128 UnsignedInt;

class Runtime;
class Value;

enum class ObjectType : uint8_t {
  kList,
  kTuple,
  kRange,
  kKeysView,
  kValuesView,
  kItemsView,
  kGenerator,  // result of a lazy filter: always true, no length, consumed by the first iteration
  kDict,
  kNamespace,
  kFunction,
  kMacro,
  kLoop,
  kCycler,
};

struct Object {
  explicit Object(ObjectType t) : type(t) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  const ObjectType type;
};

struct Sequence;
class Dict;

struct Undefined {
  std::shared_ptr<const std::string> reason;  // what an error says when the value is used, may be null
};
struct None {
  bool operator==(const None&) const = default;
};

class Value {
 public:
  using Text = std::shared_ptr<const MarkedText>;

  Value() : data_(None{}) {}
  explicit Value(bool v) : data_(v) {}
  explicit Value(Int v) : data_(v) {}
  explicit Value(int v) : data_(static_cast<Int>(v)) {}
  explicit Value(size_t v) : data_(static_cast<Int>(v)) {}
  explicit Value(double v) : data_(v) {}
  explicit Value(Text v) : data_(std::move(v)) {}
  explicit Value(Object* v) : data_(v) {}
  explicit Value(Undefined v) : data_(std::move(v)) {}
  static Value undefined(std::string reason) {
    return Value(Undefined{std::make_shared<const std::string>(std::move(reason))});
  }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<Int>(data_); }  // false for bool
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_integral() || is_float(); }
  bool is_string() const { return std::holds_alternative<Text>(data_); }
  bool is_object() const { return std::holds_alternative<Object*>(data_); }
  bool is_object(ObjectType type) const { return is_object() && object()->type == type; }
  bool is_dict() const { return is_object(ObjectType::kDict); }
  bool is_list() const { return is_object(ObjectType::kList); }
  bool is_tuple() const { return is_object(ObjectType::kTuple); }
  bool is_sequence_object() const { return is_object() && object()->type <= ObjectType::kGenerator; }

  bool boolean() const { return std::get<bool>(data_); }
  Int integer() const { return is_bool() ? Int{boolean()} : std::get<Int>(data_); }
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }
  const MarkedText& text() const { return *std::get<Text>(data_); }
  const std::string& bytes() const { return text().bytes(); }
  const Text& shared_text() const { return std::get<Text>(data_); }
  Object* object() const { return std::get<Object*>(data_); }
  Sequence& sequence() const;  // is_sequence_object()
  Dict& dict() const;          // dict or namespace
  const std::string& undefined_reason() const;

  // Python's type name, for messages: "str", "dict", "NoneType".
  const char* type_name() const;

 private:
  std::variant<None, Undefined, bool, Int, double, Text, Object*> data_;
};

// Everything iterable that holds its elements.
struct Sequence : Object {
  Sequence(ObjectType t, std::vector<Value> v) : Object(t), items(std::move(v)) {}
  std::vector<Value> items;
  size_t consumed = 0;    // generators only: elements already taken
  bool is_group = false;  // a pair of groupby: its parts are also .grouper and .list
};

struct Range : Sequence {
  Range(std::vector<Value> v, Int start_, Int stop_, Int step_)
      : Sequence(ObjectType::kRange, std::move(v)), start(start_), stop(stop_), step(step_) {}
  Int start, stop, step;
};

// Insertion-ordered dictionary with Python's key equality (1 == 1.0 == True). Also the attributes of a namespace.
class Dict : public Object {
 public:
  using Entry = std::pair<Value, Value>;
  explicit Dict(ObjectType t = ObjectType::kDict) : Object(t) {}

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  const Value* find(const Value& key) const;  // key must be hashable
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
  void erase(const Value& key);
  void clear();

 private:
  static constexpr size_t kIndexFrom = 9;  // smaller dictionaries are searched linearly
  size_t position(std::string_view text_key) const;
  size_t position(const Value& key) const;
  void add_to_index(size_t entry);
  void rebuild_index();

  std::vector<Entry> entries_;
  std::unordered_map<std::string_view, size_t> text_index_;  // views into the keys' own bytes
  std::unordered_map<std::string, size_t> other_index_;      // by canonical_key()
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Function : Object {
  using Body = std::function<Value(Runtime&, const Args&)>;
  Function(std::string n, Body b) : Object(ObjectType::kFunction), name(std::move(n)), body(std::move(b)) {}
  std::string name;
  Body body;
};

struct Cycler : Object {
  explicit Cycler(std::vector<Value> v) : Object(ObjectType::kCycler), items(std::move(v)) {}
  std::vector<Value> items;
  size_t position = 0;
};

// False for lists and dicts, anywhere in a tuple, and for tuples too deep or large to be sensible keys.
bool is_hashable(const Value& value);
// Text that is equal exactly for equal keys; the key must be hashable.
std::string canonical_key(const Value& value);

}  // namespace fettle::text::jinja
