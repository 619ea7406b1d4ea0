#include "io/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/gguf_parse.h"

namespace fettle::io {
namespace {

template <typename T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

bool is_integer_type(GgufType t) {
  return t != GgufType::kF32 && t != GgufType::kF64 && t != GgufType::kBool && t != GgufType::kString &&
         t != GgufType::kArray;
}

size_t integer_bytes(GgufType t) {
  switch (t) {
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
      return 8;
    default:
      return 1;
  }
}

// nullopt when a u64 does not fit int64.
std::optional<int64_t> load_integer(GgufType t, const std::byte* p) {
  switch (t) {
    case GgufType::kU8:
    case GgufType::kBool:
      return load<uint8_t>(p);
    case GgufType::kI8:
      return load<int8_t>(p);
    case GgufType::kU16:
      return load<uint16_t>(p);
    case GgufType::kI16:
      return load<int16_t>(p);
    case GgufType::kU32:
      return load<uint32_t>(p);
    case GgufType::kI32:
      return load<int32_t>(p);
    case GgufType::kI64:
      return load<int64_t>(p);
    default: {
      const auto v = load<uint64_t>(p);
      if (v > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(v);
    }
  }
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  static constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(type)];
}

std::string GgufValue::type_text() const {
  if (type != GgufType::kArray) return std::string(gguf_type_name(type));
  return fmt::format("array of {} {}", count, gguf_type_name(element));
}

struct GgufFile::State {
  std::string path;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> keep_alive;
  std::shared_ptr<const MappedFile> file;  // null for bytes in memory
  GgufContents contents;
};

GgufFile GgufFile::open(const std::string& path) {
  auto file = MappedFile::open(path);
  auto state = std::make_shared<State>();
  state->path = path;
  state->bytes = file->bytes();
  state->keep_alive = file;
  state->file = std::move(file);
  state->contents = parse_gguf(state->bytes, path);
  GgufFile out;
  out.state_ = std::move(state);
  return out;
}

GgufFile GgufFile::parse(std::span<const std::byte> file, const std::string& path,
                         std::shared_ptr<const void> keep_alive) {
  auto state = std::make_shared<State>();
  state->path = path;
  state->bytes = file;
  state->keep_alive = std::move(keep_alive);
  state->contents = parse_gguf(file, path);
  GgufFile out;
  out.state_ = std::move(state);
  return out;
}

const std::string& GgufFile::path() const { return state_->path; }
uint32_t GgufFile::version() const { return state_->contents.version; }
uint64_t GgufFile::alignment() const { return state_->contents.alignment; }
std::span<const GgufValue> GgufFile::values() const { return state_->contents.values; }
std::span<const TensorEntry> GgufFile::entries() const { return state_->contents.entries; }

const GgufValue* GgufFile::find_value(std::string_view key) const {
  const auto& c = state_->contents;
  const auto at = std::lower_bound(c.value_order.begin(), c.value_order.end(), key,
                                   [&](uint32_t i, std::string_view k) { return c.values[i].key < k; });
  return at != c.value_order.end() && c.values[*at].key == key ? &c.values[*at] : nullptr;
}

const TensorEntry* GgufFile::find(std::string_view name) const {
  const auto& c = state_->contents;
  const auto at = std::lower_bound(c.entry_order.begin(), c.entry_order.end(), name,
                                   [&](uint32_t i, std::string_view k) { return c.entries[i].name < k; });
  return at != c.entry_order.end() && c.entries[*at].name == name ? &c.entries[*at] : nullptr;
}

const TensorEntry& GgufFile::at(std::string_view name) const {
  const TensorEntry* entry = find(name);
  if (!entry) fail(ErrorCode::kInput, "{}: tensor \"{}\": missing", path(), printable(name));
  return *entry;
}

const GgufValue& GgufFile::value_at(std::string_view key, std::string_view expected) const {
  const GgufValue* value = find_value(key);
  if (!value)
    fail(ErrorCode::kInput, "{}: key \"{}\": expected {}, the key is missing", path(), printable(key), expected);
  return *value;
}

namespace {
[[noreturn]] void wrong_type(const GgufFile& file, const GgufValue& value, std::string_view expected) {
  fail(ErrorCode::kInput, "{}: key \"{}\": expected {}, found {}", file.path(), printable(value.key), expected,
       value.type_text());
}
}  // namespace

std::string_view GgufFile::string(std::string_view key) const {
  const GgufValue& v = value_at(key, "string");
  if (v.type != GgufType::kString) wrong_type(*this, v, "string");
  return {reinterpret_cast<const char*>(v.raw.data()), v.raw.size()};
}

int64_t GgufFile::integer(std::string_view key, int64_t lo, int64_t hi) const {
  const GgufValue& v = value_at(key, "an integer");
  if (!is_integer_type(v.type)) wrong_type(*this, v, "an integer");
  const std::optional<int64_t> n = load_integer(v.type, v.raw.data());
  if (!n || *n < lo || *n > hi)
    fail(ErrorCode::kInput, "{}: key \"{}\": expected an integer in [{}, {}], found {}", path(), printable(key), lo, hi,
         n ? fmt::format("{}", *n) : fmt::format("{}", load<uint64_t>(v.raw.data())));
  return *n;
}

double GgufFile::number(std::string_view key) const {
  const GgufValue& v = value_at(key, "a number");
  double x = 0;
  if (v.type == GgufType::kF32)
    x = static_cast<double>(load<float>(v.raw.data()));
  else if (v.type == GgufType::kF64)
    x = load<double>(v.raw.data());
  else if (is_integer_type(v.type))
    x = static_cast<double>(integer(key));
  else
    wrong_type(*this, v, "a number");
  if (!std::isfinite(x))
    fail(ErrorCode::kInput, "{}: key \"{}\": expected a finite number, found {}", path(), printable(key), x);
  return x;
}

bool GgufFile::boolean(std::string_view key) const {
  const GgufValue& v = value_at(key, "bool");
  if (v.type != GgufType::kBool) wrong_type(*this, v, "bool");
  return v.raw[0] != std::byte{0};
}

std::vector<std::string_view> GgufFile::strings(std::string_view key) const {
  const GgufValue& v = value_at(key, "array of strings");
  if (v.type != GgufType::kArray || v.element != GgufType::kString) wrong_type(*this, v, "array of strings");
  std::vector<std::string_view> out;
  out.reserve(v.count);
  const std::byte* p = v.raw.data();
  for (uint64_t i = 0; i < v.count; ++i) {  // lengths were validated by parse_gguf
    const auto n = load<uint64_t>(p);
    out.emplace_back(reinterpret_cast<const char*>(p) + 8, n);
    p += 8 + n;
  }
  return out;
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  const GgufValue& v = value_at(key, "array of integers");
  const bool fits = v.type == GgufType::kArray && (is_integer_type(v.element) || v.element == GgufType::kBool);
  if (!fits) wrong_type(*this, v, "array of integers");
  const size_t size = integer_bytes(v.element);
  std::vector<int64_t> out;
  out.reserve(v.count);
  for (uint64_t i = 0; i < v.count; ++i) {
    const std::optional<int64_t> n = load_integer(v.element, v.raw.data() + i * size);
    if (!n)
      fail(ErrorCode::kInput, "{}: key \"{}\": element {} does not fit a signed 64-bit integer", path(), printable(key),
           i);
    out.push_back(*n);
  }
  return out;
}

std::vector<float> GgufFile::numbers(std::string_view key) const {
  const GgufValue& v = value_at(key, "array of numbers");
  const bool fits = v.type == GgufType::kArray && (v.element == GgufType::kF32 || v.element == GgufType::kF64);
  if (!fits) wrong_type(*this, v, "array of f32 or f64");
  std::vector<float> out;
  out.reserve(v.count);
  for (uint64_t i = 0; i < v.count; ++i)
    out.push_back(v.element == GgufType::kF32 ? load<float>(v.raw.data() + 4 * i)
                                              : static_cast<float>(load<double>(v.raw.data() + 8 * i)));
  return out;
}

std::string GgufFile::string_or(std::string_view key, std::string_view fallback) const {
  return std::string(has(key) ? string(key) : fallback);
}
int64_t GgufFile::integer_or(std::string_view key, int64_t fallback, int64_t lo, int64_t hi) const {
  return has(key) ? integer(key, lo, hi) : fallback;
}
double GgufFile::number_or(std::string_view key, double fallback) const { return has(key) ? number(key) : fallback; }
bool GgufFile::boolean_or(std::string_view key, bool fallback) const { return has(key) ? boolean(key) : fallback; }

Tensor GgufFile::tensor(std::string_view name) const {
  const TensorEntry& entry = at(name);
  if (entry.dtype) return Tensor::borrow(*entry.dtype, entry.shape, bytes(entry), state_->keep_alive);
  const GgmlType* type = find_ggml_type(entry.ggml_type);
  FETTLE_CHECK(type != nullptr);
  std::vector<int64_t> shape = entry.shape;
  shape.back() = shape.back() / type->block_elements * type->block_bytes;
  return Tensor::borrow(DType::kU8, std::move(shape), bytes(entry), state_->keep_alive);
}

std::span<const std::byte> GgufFile::bytes(const TensorEntry& entry) const {
  return state_->bytes.subspan(entry.offset, entry.bytes);
}

void GgufFile::release(const TensorEntry& entry) const {
  if (state_->file) state_->file->drop(bytes(entry));
}

}  // namespace fettle::io
