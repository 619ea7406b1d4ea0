#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

// Read-only private mapping of a regular file. Anything else (directory, FIFO, device, socket) is kInput; a missing or
// unreadable file is kIo. Bytes are only byte aligned unless the format says otherwise. If the file is truncated by
// someone else while mapped, a SIGBUS handler prints file and offset and exits with status 5.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Tells the kernel that these bytes will not be needed soon, so that they stop counting as resident.
  void drop(std::span<const std::byte> range) const;

 private:
  MappedFile(std::string path, const std::byte* data, size_t size);
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Whole file as a string. Throws kInput when it is larger than max_bytes or not a regular file, kIo otherwise.
std::string read_file(const std::string& path, size_t max_bytes);

bool file_exists(const std::string& path);
bool is_directory(const std::string& path);
std::vector<std::string> list_directory(const std::string& path);  // names, sorted
std::string path_join(std::string_view dir, std::string_view name);
std::string base_name(std::string_view path);
// Throws kInput unless name is a plain file name: no separator, NUL, "..", leading dot, empty. `source` is named.
void require_base_name(std::string_view name, std::string_view source);
uint64_t free_disk_bytes(const std::string& dir);

// Sequential writer with checked writes. Writes go to the path given; use OutputDir or write_file_atomic for results.
class FileWriter {
 public:
  explicit FileWriter(const std::string& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void reserve(uint64_t bytes);  // posix_fallocate: disk full is reported now, as kResource
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  void pad_to(uint64_t alignment);
  // Writes at an absolute offset, in any order; for files whose layout is known before the content. The file ends
  // after the last byte written either way.
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  uint64_t position() const { return position_; }
  void close();  // flush, fsync, close; throws kIo

 private:
  void flush();
  std::string path_;
  int fd_ = -1;
  uint64_t position_ = 0;  // of sequential writes
  uint64_t end_ = 0;       // after the last write_at
  std::vector<std::byte> buffer_;
};

enum class Overwrite { kNo, kYes };

// Writes beside the target and renames when whole; a failure leaves the target as it was.
void write_file_atomic(const std::string& path, std::string_view content, Overwrite overwrite = Overwrite::kYes);

// A result folder that appears complete or not at all: files are written into OUT.partial-<pid>-<random>/, commit()
// fsyncs and renames. Destruction without commit() removes the partial folder, as do SIGINT/SIGTERM handlers that
// unwind. An existing target is refused (kUsage) unless Overwrite::kYes. Holds a lock file per output path, so that two
// writers of one target get kIo "locked". Leftovers of dead writers are removed on construction.
class OutputDir {
 public:
  // kResumable: files go into OUT.partial/, which keep() makes outlive this object and the process. kStart refuses one
  // that is there (kUsage), kContinue takes it over as it is and creates it when it is missing.
  enum class Resumable { kNo, kStart, kContinue };
  OutputDir(const std::string& target, Overwrite overwrite, Resumable resumable = Resumable::kNo);
  ~OutputDir();
  OutputDir(const OutputDir&) = delete;
  OutputDir& operator=(const OutputDir&) = delete;
  const std::string& path() const { return partial_; }  // where to write now
  std::string file(std::string_view name) const;        // path() + "/" + name
  void commit();
  void keep() { keep_ = true; }  // resumable folders: destruction without commit() leaves path() in place

 private:
  std::string target_, partial_, lock_path_;
  int lock_fd_ = -1;
  Overwrite overwrite_;
  bool committed_ = false, keep_ = false;
};

// The same for one file; `write` gets the temporary path.
void write_output_file(const std::string& target, Overwrite overwrite, const std::function<void(FileWriter&)>& write);

}  // namespace fettle
