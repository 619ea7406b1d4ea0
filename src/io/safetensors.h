#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "io/tensor_entry.h"
#include "tensor/tensor.h"

namespace fettle::io {

// A memory-mapped .safetensors file. open() checks everything the format promises before any tensor is handed out
// (header size, strict JSON, types, overflow, offsets contiguous and covering the file exactly), so tensor() never
// reads outside the file. Layout: u64 little-endian header size N, N bytes of JSON, data. Copies share the mapping.
// Limits: header 100,000,000 bytes, 1,000,000 tensors, names 1,024 bytes, rank 8, 65,536 metadata entries, JSON
// depth 32.
class SafetensorsFile {
 public:
  // Throws kInput naming file, tensor, expected and found; kIo when the file cannot be opened.
  static SafetensorsFile open(const std::string& path);

  const std::string& path() const;
  std::span<const TensorEntry> entries() const;                              // in file order
  const TensorEntry* find(std::string_view name) const;                      // nullptr when absent
  const TensorEntry& at(std::string_view name) const;                        // throws kInput when absent
  const std::vector<std::pair<std::string, std::string>>& metadata() const;  // "__metadata__", in header order

  // Zero-copy: borrows the mapped bytes. Throws kInput when absent or when the dtype has no in-memory form (sub-byte
  // and FNUZ floats, complex).
  Tensor tensor(std::string_view name) const;
  std::span<const std::byte> bytes(const TensorEntry& entry) const;
  // Lets the kernel drop these pages from memory; later reads load them again.
  void release(const TensorEntry& entry) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// Validates a whole file image; what SafetensorsFile::open does after mapping. Entries come back in file order.
struct SafetensorsHeader {
  std::vector<TensorEntry> entries;
  std::vector<std::pair<std::string, std::string>> metadata;
};
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& path);

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  uint64_t bytes() const;
};

// Writes one file whose tensors are all known in advance; their data may then arrive in any order. Data is sorted by
// descending alignment, then name; the header is padded so that data starts on a multiple of 8. `out` must be fresh and
// outlive the writer.
class SafetensorsWriter {
 public:
  // Reserves the disk space (kResource when it is not there). Throws kInput for duplicate names.
  SafetensorsWriter(FileWriter& out, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  // Throws kInternal for a name, dtype or shape that was not announced, or written twice.
  void write(const std::string& name, const Tensor& tensor);
  // Throws kInternal when an announced tensor was not written. Does not close `out`.
  void finish();
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Slot {
    TensorSpec spec;
    uint64_t offset;  // in the file
    bool written;
  };
  FileWriter& out_;
  std::map<std::string, Slot> slots_;
  uint64_t file_bytes_ = 0;
};

// Writes a whole file from tensors in memory, atomically.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       Overwrite overwrite = Overwrite::kYes,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace fettle::io
