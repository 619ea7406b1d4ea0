#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "io/ggml_types.h"
#include "io/tensor_entry.h"
#include "tensor/tensor.h"

namespace fettle::io {

enum class GgufType : uint32_t {
  kU8 = 0,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};
std::string_view gguf_type_name(GgufType type);  // "u32", "string", ...

// One metadata value; the bytes stay in the mapping. Strings: `raw` is the text. Arrays: the elements back to back,
// for strings each as u64 length + bytes, already validated.
struct GgufValue {
  std::string_view key;
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;  // arrays
  uint64_t count = 1;                // arrays
  std::span<const std::byte> raw;

  std::string type_text() const;  // "u32", "array of 3 strings"
};

// A memory-mapped GGUF file, version 2 or 3. open() validates metadata, tensor table and data size before anything is
// handed out; nothing is allocated from an unchecked count. Values and names are views into the mapping. Copies share
// the mapping.
class GgufFile {
 public:
  // Throws kInput naming file, key or tensor, expected and found; kIo when the file cannot be opened.
  static GgufFile open(const std::string& path);
  // The same for bytes in memory, which must outlive the result (tests, fuzzing).
  static GgufFile parse(std::span<const std::byte> file, const std::string& path,
                        std::shared_ptr<const void> keep_alive = nullptr);

  const std::string& path() const;
  uint32_t version() const;
  uint64_t alignment() const;

  std::span<const GgufValue> values() const;                // in file order
  const GgufValue* find_value(std::string_view key) const;  // nullptr when absent
  bool has(std::string_view key) const { return find_value(key) != nullptr; }

  // Typed reads; throw kInput naming the key, expected and found type or range. Integers of any width and sign are
  // accepted where an integer is expected, f32 and f64 where a number is.
  std::string_view string(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
  double number(std::string_view key) const;  // finite; integers are accepted too
  bool boolean(std::string_view key) const;
  std::vector<std::string_view> strings(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;  // array of any integer type or bool
  std::vector<float> numbers(std::string_view key) const;     // array of f32 or f64

  std::string string_or(std::string_view key, std::string_view fallback) const;
  int64_t integer_or(std::string_view key, int64_t fallback, int64_t lo = INT64_MIN, int64_t hi = INT64_MAX) const;
  double number_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;

  std::span<const TensorEntry> entries() const;          // in file order
  const TensorEntry* find(std::string_view name) const;  // nullptr when absent
  const TensorEntry& at(std::string_view name) const;    // throws kInput when absent

  // Zero-copy. Plain types give their dtype and shape; block types give U8 with the last dimension in bytes.
  Tensor tensor(std::string_view name) const;
  std::span<const std::byte> bytes(const TensorEntry& entry) const;
  void release(const TensorEntry& entry) const;

 private:
  struct State;
  const GgufValue& value_at(std::string_view key, std::string_view expected) const;
  std::shared_ptr<const State> state_;
};

// Metadata to be written, in order. Only the types that models use.
class GgufMetadata {
 public:
  void string(std::string_view key, std::string_view value);
  void u32(std::string_view key, uint32_t value);
  void u64(std::string_view key, uint64_t value);
  void i32(std::string_view key, int32_t value);
  void f32(std::string_view key, float value);
  void boolean(std::string_view key, bool value);
  void strings(std::string_view key, std::span<const std::string> values);
  void f32s(std::string_view key, std::span<const float> values);
  void i32s(std::string_view key, std::span<const int32_t> values);
  void u8s(std::string_view key, std::string_view bytes);
  // Copies a value of another file as it is.
  void copy(const GgufValue& value);

  uint64_t count() const { return count_; }
  std::string_view encoded() const { return bytes_; }

 private:
  void head(std::string_view key, GgufType type);
  void array_head(std::string_view key, GgufType element, uint64_t n);
  template <typename T>
  void raw(T value);
  void raw_string(std::string_view text);
  std::string bytes_;
  std::vector<std::string> keys_;
  uint64_t count_ = 0;
};

struct GgufTensorSpec {
  std::string name;
  uint32_t type = 0;           // ggml id
  std::vector<int64_t> shape;  // row-major; the last dimension is K in elements

  uint64_t bytes() const;  // throws kInput when K is no multiple of the block
};

// Writes a GGUF v3 file, alignment 32; tensors in the given order, their data in any order. `out` must be fresh.
class GgufWriter {
 public:
  GgufWriter(FileWriter& out, const GgufMetadata& metadata, std::vector<GgufTensorSpec> tensors);
  void write(const std::string& name, std::span<const std::byte> bytes);
  // Throws kInternal when a tensor is missing.
  void finish();

 private:
  struct Slot {
    uint64_t offset, bytes;
    bool written;
  };
  FileWriter& out_;
  std::vector<std::pair<std::string, Slot>> slots_;  // sorted by name
};

}  // namespace fettle::io
