#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "io/gguf.h"

namespace fettle::io {
namespace {

constexpr uint64_t kAlignment = 32;

void append_u32(std::string* out, uint32_t v) { out->append(reinterpret_cast<const char*>(&v), sizeof v); }
void append_u64(std::string* out, uint64_t v) { out->append(reinterpret_cast<const char*>(&v), sizeof v); }
void append_string(std::string* out, std::string_view text) {
  append_u64(out, text.size());
  out->append(text);
}

}  // namespace

template <typename T>
void GgufMetadata::raw(T value) {
  bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void GgufMetadata::raw_string(std::string_view text) { append_string(&bytes_, text); }

void GgufMetadata::head(std::string_view key, GgufType type) {
  if (std::find(keys_.begin(), keys_.end(), key) != keys_.end())
    fail(ErrorCode::kInternal, "GGUF metadata: key \"{}\" set twice", printable(key));
  keys_.emplace_back(key);
  raw_string(key);
  raw(static_cast<uint32_t>(type));
  ++count_;
}

void GgufMetadata::array_head(std::string_view key, GgufType element, uint64_t n) {
  head(key, GgufType::kArray);
  raw(static_cast<uint32_t>(element));
  raw(n);
}

void GgufMetadata::string(std::string_view key, std::string_view value) {
  head(key, GgufType::kString), raw_string(value);
}
void GgufMetadata::u32(std::string_view key, uint32_t value) { head(key, GgufType::kU32), raw(value); }
void GgufMetadata::u64(std::string_view key, uint64_t value) { head(key, GgufType::kU64), raw(value); }
void GgufMetadata::i32(std::string_view key, int32_t value) { head(key, GgufType::kI32), raw(value); }
void GgufMetadata::f32(std::string_view key, float value) { head(key, GgufType::kF32), raw(value); }
void GgufMetadata::boolean(std::string_view key, bool value) { head(key, GgufType::kBool), raw(uint8_t{value}); }

void GgufMetadata::strings(std::string_view key, std::span<const std::string> values) {
  array_head(key, GgufType::kString, values.size());
  for (const std::string& v : values) raw_string(v);
}
void GgufMetadata::f32s(std::string_view key, std::span<const float> values) {
  array_head(key, GgufType::kF32, values.size());
  for (const float v : values) raw(v);
}
void GgufMetadata::i32s(std::string_view key, std::span<const int32_t> values) {
  array_head(key, GgufType::kI32, values.size());
  for (const int32_t v : values) raw(v);
}

void GgufMetadata::u8s(std::string_view key, std::string_view bytes) {
  array_head(key, GgufType::kU8, bytes.size());
  bytes_ += bytes;
}

void GgufMetadata::copy(const GgufValue& value) {
  const std::string_view raw_bytes(reinterpret_cast<const char*>(value.raw.data()), value.raw.size());
  if (value.type == GgufType::kArray) {
    array_head(value.key, value.element, value.count);
    bytes_.append(raw_bytes);
  } else if (value.type == GgufType::kString) {
    string(value.key, raw_bytes);
  } else {
    head(value.key, value.type);
    bytes_.append(raw_bytes);
  }
}

uint64_t GgufTensorSpec::bytes() const {
  const GgmlType* info = find_ggml_type(type);
  if (!info) fail(ErrorCode::kInput, "tensor \"{}\": type {}: {}", printable(name), type, ggml_type_refusal(type));
  if (shape.empty() || shape.size() > 4)
    fail(ErrorCode::kInput, "tensor \"{}\": GGUF holds 1 to 4 dimensions, found {}", printable(name), shape.size());
  if (shape.back() % info->block_elements != 0)
    fail(ErrorCode::kInput, "tensor \"{}\": row of {} elements is no multiple of the {} block of {}", printable(name),
         shape.back(), info->name, info->block_elements);
  uint64_t n = 1;
  for (const int64_t dim : shape)
    if (dim < 1 || !checked_mul(n, static_cast<uint64_t>(dim), &n))
      fail(ErrorCode::kInput, "tensor \"{}\": {} is empty or overflows", printable(name), shape_text(shape));
  if (!checked_mul(n / info->block_elements, info->block_bytes, &n))
    fail(ErrorCode::kInput, "tensor \"{}\": {} overflows", printable(name), shape_text(shape));
  return n;
}

GgufWriter::GgufWriter(FileWriter& out, const GgufMetadata& metadata, std::vector<GgufTensorSpec> tensors) : out_(out) {
  std::string head = "GGUF";
  append_u32(&head, 3);
  append_u64(&head, tensors.size());
  append_u64(&head, metadata.count());
  head.append(metadata.encoded());
  uint64_t offset = 0;
  for (const GgufTensorSpec& spec : tensors) {
    if (spec.name.empty() || spec.name.size() > 63)
      fail(ErrorCode::kInput, "tensor \"{}\": GGUF names hold 1 to 63 bytes, found {}", printable(spec.name),
           spec.name.size());
    append_string(&head, spec.name);
    append_u32(&head, static_cast<uint32_t>(spec.shape.size()));
    for (auto dim = spec.shape.rbegin(); dim != spec.shape.rend(); ++dim)
      append_u64(&head, static_cast<uint64_t>(*dim));
    append_u32(&head, spec.type);
    append_u64(&head, offset);
    const uint64_t bytes = spec.bytes();
    slots_.emplace_back(spec.name, Slot{offset, bytes, false});
    offset += round_up(bytes, kAlignment);
  }
  head.append((kAlignment - head.size() % kAlignment) % kAlignment, '\0');
  for (auto& [name, slot] : slots_) slot.offset += head.size();
  std::sort(slots_.begin(), slots_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 1; i < slots_.size(); ++i)
    if (slots_[i].first == slots_[i - 1].first)
      fail(ErrorCode::kInput, "tensor \"{}\": announced twice", printable(slots_[i].first));
  out_.reserve(head.size() + offset);
  out_.write_at(0, std::as_bytes(std::span(head.data(), head.size())));
}

void GgufWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  const auto it = std::lower_bound(slots_.begin(), slots_.end(), name,
                                   [](const auto& s, const std::string& n) { return s.first < n; });
  if (it == slots_.end() || it->first != name)
    fail(ErrorCode::kInternal, "GGUF writer: tensor \"{}\" was not announced", printable(name));
  Slot& slot = it->second;
  if (slot.written) fail(ErrorCode::kInternal, "GGUF writer: tensor \"{}\" written twice", printable(name));
  if (bytes.size() != slot.bytes)
    fail(ErrorCode::kInternal, "GGUF writer: tensor \"{}\": announced {} bytes, got {}", printable(name), slot.bytes,
         bytes.size());
  out_.write_at(slot.offset, bytes);
  // The last tensor is padded too: ggml's full load insists on it.
  static constexpr std::byte kZero[kAlignment] = {};
  const uint64_t end = slot.offset + slot.bytes;
  out_.write_at(end, std::span(kZero, round_up(end, kAlignment) - end));
  slot.written = true;
}

void GgufWriter::finish() {
  for (const auto& [name, slot] : slots_)
    if (!slot.written)
      fail(ErrorCode::kInternal, "GGUF writer: tensor \"{}\" was announced but not written", printable(name));
}

}  // namespace fettle::io
