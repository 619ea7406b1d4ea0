#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "base/error.h"
#include "io/impostors.h"
#include "io/safetensors_header.h"

namespace fettle::io {
namespace {

static_assert(std::endian::native == std::endian::little, "containers are read as little-endian memory");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct StoredDType {
  std::string_view name;
  unsigned bits;
};

// Every dtype of the format (huggingface/safetensors 24b0b28); those that parse_dtype() does not know can be listed
// but not read.
constexpr StoredDType kDTypes[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

uint64_t load_u64(const std::byte* p) {
  uint64_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Offsets relative to the data buffer, checked for this entry alone.
TensorEntry checked_entry(RawSafetensorsEntry raw, const std::string& path) {
  const auto refuse = [&](const std::string& problem) {
    fail(ErrorCode::kInput, "{}: tensor \"{}\": {}", path, printable(raw.name), problem);
  };
  const auto* stored =
      std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const auto& d) { return d.name == raw.dtype; });
  if (stored == std::end(kDTypes)) refuse(fmt::format("dtype: unknown type \"{}\"", printable(raw.dtype, 40)));
  TensorEntry entry;
  uint64_t bits = stored->bits;
  uint64_t elements = 1;
  for (const uint64_t dim : raw.shape) {
    if (!checked_mul(elements, dim, &elements) || dim > static_cast<uint64_t>(INT64_MAX))
      refuse("shape: number of elements overflows 64 bits");
    entry.shape.push_back(static_cast<int64_t>(dim));
  }
  if (!checked_mul(bits, elements, &bits))
    refuse(fmt::format("shape: bits of {} elements of {} overflow 64 bits", elements, raw.dtype));
  if (bits % 8 != 0) refuse(fmt::format("shape: {} elements of {} do not fill whole bytes", elements, raw.dtype));
  if (raw.begin > raw.end) refuse(fmt::format("data_offsets: begin {} is after end {}", raw.begin, raw.end));
  if (raw.end - raw.begin != bits / 8)
    refuse(fmt::format("data_offsets [{}, {}): expected {} bytes for {} {}, found {}", raw.begin, raw.end, bits / 8,
                       raw.dtype, shape_text(entry.shape), raw.end - raw.begin));
  entry.name = std::move(raw.name);
  entry.type = std::move(raw.dtype);
  entry.dtype = parse_dtype(entry.type);
  entry.offset = raw.begin;
  entry.bytes = raw.end - raw.begin;
  return entry;
}

void check_layout(const std::vector<TensorEntry>& entries, uint64_t data_bytes, const std::string& path) {
  uint64_t expected = 0;
  for (const TensorEntry& e : entries) {
    if (e.offset != expected)
      fail(ErrorCode::kInput,
           "{}: tensor \"{}\": data_offsets: expected begin {} (end of the previous tensor), found {} ({})", path,
           printable(e.name), expected, e.offset, e.offset < expected ? "overlap" : "gap");
    expected = e.offset + e.bytes;  // cannot overflow: end is a u64 of the file
    if (expected > data_bytes)
      fail(ErrorCode::kInput, "{}: tensor \"{}\": data_offsets end {} > data size {} (file truncated by {} bytes?)",
           path, printable(e.name), expected, data_bytes, expected - data_bytes);
  }
  if (expected != data_bytes)
    fail(ErrorCode::kInput, "{}: expected {} data bytes after the header, found {} ({} trailing bytes)", path, expected,
         data_bytes, data_bytes - expected);
}

void refuse_duplicates(const std::vector<TensorEntry>& entries, const std::vector<uint32_t>& by_name,
                       const std::string& path) {
  for (size_t i = 1; i < by_name.size(); ++i)
    if (entries[by_name[i]].name == entries[by_name[i - 1]].name)
      fail(ErrorCode::kInput, "{}: tensor \"{}\": appears twice in the header", path,
           printable(entries[by_name[i]].name));
}

std::vector<uint32_t> name_order(const std::vector<TensorEntry>& entries) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return entries[a].name < entries[b].name; });
  return order;
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& path) {
  refuse_impostor(file, path, "safetensors");
  if (file.size() < 8) fail(ErrorCode::kInput, "{}: expected at least 8 bytes, found {}", path, file.size());
  const uint64_t n = load_u64(file.data());
  if (n > kMaxHeaderBytes)
    fail(ErrorCode::kInput, "{}: header size {} exceeds the limit of {} bytes", path, n, kMaxHeaderBytes);
  if (n > file.size() - 8)
    fail(ErrorCode::kInput, "{}: header size {} exceeds the {} bytes that follow it", path, n, file.size() - 8);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, n);
  RawSafetensorsHeader raw = parse_safetensors_json(text, path);

  SafetensorsHeader header;
  header.metadata = std::move(raw.metadata);
  header.entries.reserve(raw.entries.size());
  for (RawSafetensorsEntry& e : raw.entries) header.entries.push_back(checked_entry(std::move(e), path));
  std::sort(header.entries.begin(), header.entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  refuse_duplicates(header.entries, name_order(header.entries), path);
  check_layout(header.entries, file.size() - 8 - n, path);
  for (TensorEntry& e : header.entries) e.offset += 8 + n;
  return header;
}

struct SafetensorsFile::State {
  std::shared_ptr<const MappedFile> file;
  SafetensorsHeader header;
  std::vector<uint32_t> by_name;
};

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  auto state = std::make_shared<State>();
  state->file = MappedFile::open(path);
  state->header = parse_safetensors(state->file->bytes(), path);
  state->by_name = name_order(state->header.entries);
  SafetensorsFile out;
  out.state_ = std::move(state);
  return out;
}

const std::string& SafetensorsFile::path() const { return state_->file->path(); }
std::span<const TensorEntry> SafetensorsFile::entries() const { return state_->header.entries; }
const std::vector<std::pair<std::string, std::string>>& SafetensorsFile::metadata() const {
  return state_->header.metadata;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto& entries = state_->header.entries;
  const auto at = std::lower_bound(state_->by_name.begin(), state_->by_name.end(), name,
                                   [&](uint32_t i, std::string_view key) { return entries[i].name < key; });
  return at != state_->by_name.end() && entries[*at].name == name ? &entries[*at] : nullptr;
}

const TensorEntry& SafetensorsFile::at(std::string_view name) const {
  const TensorEntry* entry = find(name);
  if (!entry) fail(ErrorCode::kInput, "{}: tensor \"{}\": missing", path(), printable(name));
  return *entry;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const TensorEntry& entry = at(name);
  if (!entry.dtype)
    fail(ErrorCode::kInput, "{}: tensor \"{}\": dtype {} is recognised but cannot be computed with", path(),
         printable(name), entry.type);
  return Tensor::borrow(*entry.dtype, entry.shape, bytes(entry), state_->file);
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorEntry& entry) const {
  return state_->file->bytes().subspan(entry.offset, entry.bytes);
}

void SafetensorsFile::release(const TensorEntry& entry) const { state_->file->drop(bytes(entry)); }

}  // namespace fettle::io
