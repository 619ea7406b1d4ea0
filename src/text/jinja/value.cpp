#include "text/jinja/value.h"

#include <fmt/format.h>

#include <cmath>

namespace fettle::text::jinja {
namespace {

constexpr size_t kAbsent = static_cast<size_t>(-1);
constexpr double kIntRange = 1e38;  // below 2^127: such a double converts to Int exactly

}  // namespace

Sequence& Value::sequence() const { return *static_cast<Sequence*>(object()); }
Dict& Value::dict() const { return *static_cast<Dict*>(object()); }

const std::string& Value::undefined_reason() const {
  static const std::string kUnknown = "value is undefined";
  const auto& reason = std::get<Undefined>(data_).reason;
  return reason ? *reason : kUnknown;
}

const char* Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return text().is_markup() ? "Markup" : "str";
  switch (object()->type) {
    case ObjectType::kList:
      return "list";
    case ObjectType::kTuple:
      return "tuple";
    case ObjectType::kRange:
      return "range";
    case ObjectType::kKeysView:
      return "dict_keys";
    case ObjectType::kValuesView:
      return "dict_values";
    case ObjectType::kItemsView:
      return "dict_items";
    case ObjectType::kGenerator:
      return "generator";
    case ObjectType::kDict:
      return "dict";
    case ObjectType::kNamespace:
      return "Namespace";
    case ObjectType::kFunction:
      return "function";
    case ObjectType::kMacro:
      return "Macro";
    case ObjectType::kLoop:
      return "LoopContext";
    case ObjectType::kCycler:
      return "Cycler";
  }
  return "object";
}

namespace {

// `nodes` bounds the work on tuples that share their parts, `depth` the recursion.
bool is_hashable_within(const Value& value, int depth, size_t* nodes) {
  if (depth == 0 || *nodes == 0) return false;
  --*nodes;
  if (!value.is_object()) return true;
  if (!value.is_tuple()) return !value.is_list() && !value.is_dict();
  for (const Value& item : value.sequence().items)
    if (!is_hashable_within(item, depth - 1, nodes)) return false;
  return true;
}

}  // namespace

bool is_hashable(const Value& value) {
  size_t nodes = 10'000;
  return is_hashable_within(value, 32, &nodes);
}

std::string canonical_key(const Value& value) {
  if (value.is_none()) return "N";
  if (value.is_undefined()) return "U";
  if (value.is_integral()) return fmt::format("i{}", value.integer());
  if (value.is_float()) {
    const double d = value.number();
    if (std::abs(d) < kIntRange && d == std::floor(d)) return fmt::format("i{}", static_cast<Int>(d));
    return fmt::format("f{}", d);
  }
  if (value.is_string()) return fmt::format("s{}:{}", value.bytes().size(), value.bytes());
  if (value.is_tuple()) {
    std::string out = fmt::format("t{}(", value.sequence().items.size());
    for (const Value& item : value.sequence().items) out += canonical_key(item) + ",";
    return out + ")";
  }
  return fmt::format("o{}", static_cast<const void*>(value.object()));
}

size_t Dict::position(std::string_view key) const {
  if (entries_.size() >= kIndexFrom) {
    const auto found = text_index_.find(key);
    return found == text_index_.end() ? kAbsent : found->second;
  }
  for (size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i].first.is_string() && entries_[i].first.bytes() == key) return i;
  return kAbsent;
}

size_t Dict::position(const Value& key) const {
  if (key.is_string()) return position(std::string_view(key.bytes()));
  const std::string canonical = canonical_key(key);
  if (entries_.size() >= kIndexFrom) {
    const auto found = other_index_.find(canonical);
    return found == other_index_.end() ? kAbsent : found->second;
  }
  for (size_t i = 0; i < entries_.size(); ++i)
    if (!entries_[i].first.is_string() && canonical_key(entries_[i].first) == canonical) return i;
  return kAbsent;
}

void Dict::add_to_index(size_t entry) {
  const Value& key = entries_[entry].first;
  if (key.is_string())
    text_index_.emplace(key.bytes(), entry);
  else
    other_index_.emplace(canonical_key(key), entry);
}

void Dict::rebuild_index() {
  text_index_.clear();
  other_index_.clear();
  if (entries_.size() < kIndexFrom) return;
  for (size_t i = 0; i < entries_.size(); ++i) add_to_index(i);
}

const Value* Dict::find(const Value& key) const {
  const size_t at = position(key);
  return at == kAbsent ? nullptr : &entries_[at].second;
}

const Value* Dict::find(std::string_view key) const {
  const size_t at = position(key);
  return at == kAbsent ? nullptr : &entries_[at].second;
}

void Dict::set(const Value& key, Value value) {
  const size_t at = position(key);
  if (at != kAbsent) {
    entries_[at].second = std::move(value);
    return;
  }
  entries_.emplace_back(key, std::move(value));
  if (entries_.size() == kIndexFrom)
    rebuild_index();
  else if (entries_.size() > kIndexFrom)
    add_to_index(entries_.size() - 1);
}

void Dict::erase(const Value& key) {
  const size_t at = position(key);
  if (at == kAbsent) return;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(at));
  rebuild_index();
}

void Dict::clear() {
  entries_.clear();
  rebuild_index();
}

}  // namespace fettle::text::jinja
