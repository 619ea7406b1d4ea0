#include "io/gguf_parse.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "io/impostors.h"

namespace fettle::io {
namespace {

constexpr uint64_t kMaxStringBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensorName = 63;  // ggml: GGML_MAX_NAME 64 with the terminator
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint32_t kMaxDims = 4;

// Bytes of one element; 0 for strings and arrays.
uint64_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

// Cursor over the file. Every read is compared with what remains, so nothing can wrap.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, const std::string& path) : file_(file), path_(path) {}

  uint64_t position() const { return pos_; }
  uint64_t remaining() const { return file_.size() - pos_; }
  std::span<const std::byte> take(uint64_t n, const std::string& what) {
    if (n > remaining())
      fail(ErrorCode::kInput, "{}: {} at byte {}: expected {} bytes, the file has {} left", path_, what, pos_, n,
           remaining());
    const auto out = file_.subspan(pos_, n);
    pos_ += n;
    return out;
  }
  template <typename T>
  T number(const std::string& what) {
    T v;
    std::memcpy(&v, take(sizeof(T), what).data(), sizeof(T));
    return v;
  }
  std::string_view string(uint64_t max_bytes, const std::string& what) {
    const uint64_t at = pos_;
    const auto n = number<uint64_t>(what + " length");
    if (n > max_bytes)
      fail(ErrorCode::kInput, "{}: {} at byte {}: length {} exceeds the limit of {}", path_, what, at, n, max_bytes);
    const auto text = take(n, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }
  const std::string& path() const { return path_; }

 private:
  std::span<const std::byte> file_;
  const std::string& path_;
  uint64_t pos_ = 0;
};

GgufType checked_type(Cursor& in, const std::string& where) {
  const auto id = in.number<uint32_t>(where + " type");
  if (id > static_cast<uint32_t>(GgufType::kF64))
    fail(ErrorCode::kInput, "{}: {}: expected a value type in [0, 12], found {}", in.path(), where, id);
  return static_cast<GgufType>(id);
}

void check_bools(std::span<const std::byte> raw, const std::string& where, const std::string& path) {
  for (const std::byte b : raw)
    if (b > std::byte{1})
      fail(ErrorCode::kInput, "{}: {}: expected a bool of 0 or 1, found {}", path, where, static_cast<int>(b));
}

void read_array(Cursor& in, const std::string& where, GgufValue* value) {
  value->element = checked_type(in, where + " element");
  value->count = in.number<uint64_t>(where + " count");
  if (value->element == GgufType::kArray)
    fail(ErrorCode::kInput, "{}: {}: arrays of arrays are not supported", in.path(), where);
  const uint64_t size = value->element == GgufType::kString ? 8 : scalar_bytes(value->element);
  if (value->count > in.remaining() / size)
    fail(ErrorCode::kInput, "{}: {} at byte {}: {} elements of at least {} bytes exceed the {} bytes left", in.path(),
         where, in.position(), value->count, size, in.remaining());
  if (value->element != GgufType::kString) {
    value->raw = in.take(value->count * size, where);
    if (value->element == GgufType::kBool) check_bools(value->raw, where, in.path());
    return;
  }
  Cursor walk = in;
  for (uint64_t i = 0; i < value->count; ++i) walk.string(kMaxStringBytes, where);
  value->raw = in.take(walk.position() - in.position(), where);
}

GgufValue read_value(Cursor& in) {
  GgufValue value;
  value.key = in.string(kMaxKeyBytes, "metadata key");
  if (value.key.empty()) fail(ErrorCode::kInput, "{}: metadata key at byte {}: empty", in.path(), in.position() - 8);
  const std::string where = fmt::format("key \"{}\"", printable(value.key));
  value.type = checked_type(in, where);
  if (value.type == GgufType::kArray) {
    read_array(in, where, &value);
  } else if (value.type == GgufType::kString) {
    const std::string_view text = in.string(kMaxStringBytes, where);
    value.raw = std::as_bytes(std::span(text.data(), text.size()));
  } else {
    value.raw = in.take(scalar_bytes(value.type), where);
    if (value.type == GgufType::kBool) check_bools(value.raw, where, in.path());
  }
  return value;
}

// Name, dims, type; checks the size and leaves `offset` relative to the data section.
TensorEntry read_tensor(Cursor& in) {
  TensorEntry entry;
  entry.name = in.string(kMaxTensorName, "tensor name");
  const std::string where = fmt::format("tensor \"{}\"", printable(entry.name));
  const auto n_dims = in.number<uint32_t>(where + " n_dims");
  if (n_dims < 1 || n_dims > kMaxDims)
    fail(ErrorCode::kInput, "{}: {}: expected 1 to {} dimensions, found {}", in.path(), where, kMaxDims, n_dims);
  uint64_t elements = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    const auto dim = in.number<uint64_t>(where + " dims");
    if (dim < 1 || dim > static_cast<uint64_t>(INT64_MAX))
      fail(ErrorCode::kInput, "{}: {}: dimension {}: expected a size in [1, 2^63), found {}", in.path(), where, i, dim);
    if (!checked_mul(elements, dim, &elements))
      fail(ErrorCode::kInput, "{}: {}: number of elements overflows 64 bits at dimension {}", in.path(), where, i);
    entry.shape.insert(entry.shape.begin(), static_cast<int64_t>(dim));
  }
  entry.ggml_type = in.number<uint32_t>(where + " type");
  const GgmlType* type = find_ggml_type(entry.ggml_type);
  if (!type)
    fail(ErrorCode::kInput, "{}: {}: type {}: {}", in.path(), where, entry.ggml_type,
         ggml_type_refusal(entry.ggml_type));
  if (entry.shape.back() % type->block_elements != 0)
    fail(ErrorCode::kInput, "{}: {}: row of {} elements is no multiple of the {} block of {}", in.path(), where,
         entry.shape.back(), type->name, type->block_elements);
  if (!checked_mul(elements / type->block_elements, type->block_bytes, &entry.bytes))
    fail(ErrorCode::kInput, "{}: {}: byte size of {} {} overflows 64 bits", in.path(), where, type->name,
         shape_text(entry.shape));
  entry.type = type->name;
  entry.dtype = type->dtype;
  entry.offset = in.number<uint64_t>(where + " offset");
  return entry;
}

uint64_t read_alignment(const GgufContents& contents, const std::string& path) {
  for (const GgufValue& value : contents.values) {
    if (value.key != "general.alignment") continue;
    if (value.type != GgufType::kU32)
      fail(ErrorCode::kInput, "{}: key \"general.alignment\": expected u32, found {}", path, value.type_text());
    uint32_t alignment = 0;
    std::memcpy(&alignment, value.raw.data(), sizeof alignment);
    if (!std::has_single_bit(alignment) || alignment > kMaxAlignment)
      fail(ErrorCode::kInput, "{}: key \"general.alignment\": expected a power of two in [1, {}], found {}", path,
           kMaxAlignment, alignment);
    return alignment;
  }
  return 32;
}

// Tensors must be packed in file order with padded sizes; turns offsets into file offsets.
void place_tensors(GgufContents* contents, uint64_t table_end, uint64_t file_bytes, const std::string& path) {
  uint64_t data_begin = 0;
  if (!checked_align(table_end, contents->alignment, &data_begin) || data_begin > file_bytes)
    fail(ErrorCode::kInput, "{}: data section: expected at byte {}, the file has {} bytes (truncated?)", path,
         data_begin, file_bytes);
  const uint64_t data_bytes = file_bytes - data_begin;
  uint64_t expected = 0;
  for (TensorEntry& entry : contents->entries) {
    const std::string where = fmt::format("tensor \"{}\"", printable(entry.name));
    if (entry.offset % contents->alignment != 0)
      fail(ErrorCode::kInput, "{}: {}: offset {} is no multiple of the alignment {}", path, where, entry.offset,
           contents->alignment);
    if (entry.offset != expected)
      fail(ErrorCode::kInput, "{}: {}: expected offset {} (tensors packed in order), found {}", path, where, expected,
           entry.offset);
    if (expected > data_bytes || entry.bytes > data_bytes - expected)
      fail(ErrorCode::kInput, "{}: {}: expected {} bytes at data offset {}, the data section has {} (file truncated?)",
           path, where, entry.bytes, entry.offset, data_bytes);
    uint64_t padded = 0;
    if (!checked_align(entry.bytes, contents->alignment, &padded) || !checked_add(expected, padded, &expected))
      fail(ErrorCode::kInput, "{}: {}: padded size overflows", path, where);
    entry.offset += data_begin;
  }
  if (data_bytes > expected) log_warning("{}: {} bytes after the last tensor are ignored", path, data_bytes - expected);
}

template <typename Items, typename Name>
std::vector<uint32_t> unique_order(const Items& items, Name name, const char* kind, const std::string& path) {
  std::vector<uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(items[a]) < name(items[b]); });
  for (size_t i = 1; i < order.size(); ++i)
    if (name(items[order[i]]) == name(items[order[i - 1]]))
      fail(ErrorCode::kInput, "{}: {} \"{}\": appears twice", path, kind, printable(name(items[order[i]])));
  return order;
}

void check_version(uint32_t version, const std::string& path) {
  if ((version & 0xFFFF) == 0 && version != 0)
    fail(ErrorCode::kInput, "{}: version field 0x{:08x} is byte-swapped; big-endian GGUF files are not supported", path,
         version);
  if (version != 2 && version != 3)
    fail(ErrorCode::kInput, "{}: expected GGUF version 2 or 3, found {}", path, version);
}

}  // namespace

GgufContents parse_gguf(std::span<const std::byte> file, const std::string& path) {
  refuse_impostor(file, path, "GGUF");
  Cursor in(file, path);
  const auto magic = in.take(4, "magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    fail(ErrorCode::kInput, "{}: expected the magic \"GGUF\", found \"{}\"", path,
         printable({reinterpret_cast<const char*>(magic.data()), 4}));
  GgufContents out;
  out.version = in.number<uint32_t>("version");
  check_version(out.version, path);
  const auto n_tensors = in.number<uint64_t>("tensor count");
  const auto n_values = in.number<uint64_t>("metadata count");
  // Smallest encodings: a value is 8 + 1 + 4 bytes at least, a tensor 8 + 4 + 8 + 4 + 8.
  if (n_values > in.remaining() / 12)
    fail(ErrorCode::kInput, "{}: metadata count {} cannot fit in the {} bytes left", path, n_values, in.remaining());
  if (n_tensors > in.remaining() / 28)
    fail(ErrorCode::kInput, "{}: tensor count {} cannot fit in the {} bytes left", path, n_tensors, in.remaining());
  for (uint64_t i = 0; i < n_values; ++i) out.values.push_back(read_value(in));
  out.alignment = read_alignment(out, path);
  for (uint64_t i = 0; i < n_tensors; ++i) out.entries.push_back(read_tensor(in));
  out.value_order = unique_order(
      out.values, [](const GgufValue& v) { return v.key; }, "key", path);
  out.entry_order = unique_order(
      out.entries, [](const TensorEntry& e) -> std::string_view { return e.name; }, "tensor", path);
  if (n_tensors > 0) place_tensors(&out, in.position(), file.size(), path);
  return out;
}

}  // namespace fettle::io
