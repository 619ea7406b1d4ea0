#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "base/error.h"

namespace fettle {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// Opens a regular file for reading without ever blocking on a FIFO.
int open_regular(const std::string& path, struct stat* info) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail(ErrorCode::kIo, "{}: cannot open: {}", path, reason());
  if (::fstat(fd.get(), info) != 0) fail(ErrorCode::kIo, "{}: cannot stat: {}", path, reason());
  if (!S_ISREG(info->st_mode))
    fail(ErrorCode::kInput, "{}: expected a regular file, found a {}", path,
         S_ISDIR(info->st_mode) ? "directory" : "special file");
  return fd.release();
}

// Mapped ranges for the SIGBUS handler; fixed storage, since a handler may not lock or allocate.
struct MappedRange {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<size_t> size{0};
  char path[256] = {};
};
std::array<MappedRange, 1024> g_ranges;

void write_stderr(const char* text, size_t n) {
  if (::write(STDERR_FILENO, text, n) < 0) return;
}

void on_sigbus(int, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  for (const MappedRange& range : g_ranges) {
    const std::byte* begin = range.begin.load(std::memory_order_acquire);
    if (!begin || address < begin || address >= begin + range.size.load()) continue;
    constexpr char kHead[] = "error[E_IO] ";
    constexpr char kTail[] = ": file shrank while mapped, read failed at offset ";
    write_stderr(kHead, sizeof kHead - 1);
    write_stderr(range.path, std::strlen(range.path));
    write_stderr(kTail, sizeof kTail - 1);
    char digits[24];
    size_t n = sizeof digits;
    digits[--n] = '\n';
    auto offset = static_cast<size_t>(address - begin);
    do {
      digits[--n] = static_cast<char>('0' + offset % 10);
      offset /= 10;
    } while (offset != 0);
    write_stderr(digits + n, sizeof digits - n);
    _exit(5);
  }
  ::signal(SIGBUS, SIG_DFL);
}

void install_sigbus_handler() {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
    return true;
  }();
  (void)installed;
}

void register_range(const std::string& path, const std::byte* data, size_t size) {
  for (MappedRange& range : g_ranges) {
    size_t expected = 0;
    if (!range.size.compare_exchange_strong(expected, size)) continue;
    std::strncpy(range.path, path.c_str(), sizeof range.path - 1);
    range.begin.store(data, std::memory_order_release);
    return;
  }
}

void unregister_range(const std::byte* data) {
  for (MappedRange& range : g_ranges) {
    if (range.begin.load() != data) continue;
    range.begin.store(nullptr);
    range.size.store(0);
    return;
  }
}

std::string random_suffix() {
  std::random_device device;
  return fmt::format("{:08x}", device());
}

void fsync_path(const std::string& path) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) fail(ErrorCode::kIo, "{}: cannot sync: {}", path, reason());
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

bool process_alive(long pid) { return pid > 0 && (::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM); }

// Removes TARGET.partial-<pid>-* left by writers that are gone.
void remove_stale_partials(const std::string& target) {
  const std::string prefix = base_name(target) + ".partial-";
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(parent_of(target), ec)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const long pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    if (!process_alive(pid)) fs::remove_all(entry.path(), ec);
  }
}

void rename_into_place(const std::string& from, const std::string& to, Overwrite overwrite) {
  const unsigned flags = RENAME_NOREPLACE;
  if (overwrite == Overwrite::kNo) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0) return;
    if (errno == EEXIST) fail(ErrorCode::kUsage, "{}: already exists (use --overwrite to replace it)", to);
    if (errno != EINVAL) fail(ErrorCode::kIo, "{}: cannot rename to {}: {}", from, to, reason());
  }
  if (::rename(from.c_str(), to.c_str()) != 0) fail(ErrorCode::kIo, "{}: cannot rename to {}: {}", from, to, reason());
}

}  // namespace

MappedFile::MappedFile(std::string path, const std::byte* data, size_t size)
    : path_(std::move(path)), data_(data), size_(size) {
  if (data_) register_range(path_, data_, size_);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  install_sigbus_handler();
  struct stat info = {};
  Descriptor fd(open_regular(path, &info));
  const auto size = static_cast<size_t>(info.st_size);
  const std::byte* data = nullptr;
  if (size > 0) {
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (mapped == MAP_FAILED) fail(ErrorCode::kIo, "{}: cannot map {} bytes: {}", path, size, reason());
    data = static_cast<const std::byte*>(mapped);
  }
  struct stat again = {};
  if (::fstat(fd.get(), &again) != 0 || again.st_size != info.st_size)
    fail(ErrorCode::kIo, "{}: size changed while opening ({} to {} bytes)", path, info.st_size, again.st_size);
  return std::shared_ptr<const MappedFile>(new MappedFile(path, data, size));
}

MappedFile::~MappedFile() {
  if (!data_) return;
  unregister_range(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::span<const std::byte> range) const {
  if (range.empty()) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(range.data()) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(range.data() + range.size()) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string read_file(const std::string& path, size_t max_bytes) {
  struct stat info = {};
  Descriptor fd(open_regular(path, &info));
  if (static_cast<uint64_t>(info.st_size) > max_bytes)
    fail(ErrorCode::kInput, "{}: {} bytes exceed the limit of {} for this kind of file", path, info.st_size, max_bytes);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "{}: read failed at byte {}: {}", path, done, reason());
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

bool file_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool is_directory(const std::string& path) {
  std::error_code ec;
  return fs::is_directory(path, ec);
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(path, ec)) names.push_back(entry.path().filename().string());
  if (ec) fail(ErrorCode::kIo, "{}: cannot list: {}", path, ec.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::string path_join(std::string_view dir, std::string_view name) {
  std::string out(dir);
  if (!out.empty() && out.back() != '/') out += '/';
  return out.append(name);
}

std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

void require_base_name(std::string_view name, std::string_view source) {
  const bool bad = name.empty() || name[0] == '.' || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos;
  if (bad) fail(ErrorCode::kInput, "{}: \"{}\" is not a plain file name", source, printable(name));
}

uint64_t free_disk_bytes(const std::string& dir) {
  struct statvfs info = {};
  if (::statvfs(dir.empty() ? "." : dir.c_str(), &info) != 0) return UINT64_MAX;
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

FileWriter::FileWriter(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail(ErrorCode::kIo, "{}: cannot create: {}", path, reason());
  buffer_.reserve(size_t{1} << 20);
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void FileWriter::reserve(uint64_t bytes) {
  if (bytes == 0) return;
  const int error = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (error == ENOSPC || error == EFBIG)
    fail(ErrorCode::kResource, "{}: needs {} bytes, the disk has {} free", path_, bytes,
         free_disk_bytes(parent_of(path_)));
  if (error != 0 && error != EOPNOTSUPP && error != EINVAL)
    fail(ErrorCode::kIo, "{}: cannot reserve {} bytes: {}", path_, bytes, std::strerror(error));
}

void FileWriter::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(ErrorCode::kIo, "{}: write failed near byte {}: {}", path_, position_, reason());
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void FileWriter::write(std::span<const std::byte> bytes) {
  constexpr size_t kFlushAt = size_t{1} << 20;
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kFlushAt - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    position_ += n;
    bytes = bytes.subspan(n);
    if (buffer_.size() >= kFlushAt) flush();
  }
}

void FileWriter::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(ErrorCode::kIo, "{}: write failed near byte {}: {}", path_, offset + done, reason());
    done += static_cast<size_t>(n);
  }
  end_ = std::max(end_, offset + bytes.size());
}

void FileWriter::pad_to(uint64_t alignment) {
  static constexpr std::byte kZero[64] = {};
  while (position_ % alignment != 0) write(std::span(kZero, std::min<uint64_t>(64, alignment - position_ % alignment)));
}

void FileWriter::close() {
  flush();
  if (::ftruncate(fd_, static_cast<off_t>(std::max(position_, end_))) != 0 || ::fsync(fd_) != 0)
    fail(ErrorCode::kIo, "{}: cannot flush: {}", path_, reason());
  if (::close(std::exchange(fd_, -1)) != 0) fail(ErrorCode::kIo, "{}: close failed: {}", path_, reason());
}

void write_output_file(const std::string& target, Overwrite overwrite, const std::function<void(FileWriter&)>& write) {
  if (overwrite == Overwrite::kNo && file_exists(target))
    fail(ErrorCode::kUsage, "{}: already exists (use --overwrite to replace it)", target);
  remove_stale_partials(target);
  const std::string partial = fmt::format("{}.partial-{}-{}", target, ::getpid(), random_suffix());
  try {
    FileWriter writer(partial);
    write(writer);
    writer.close();
    rename_into_place(partial, target, overwrite);
  } catch (...) {
    ::unlink(partial.c_str());
    throw;
  }
  fsync_path(parent_of(target));
}

void write_file_atomic(const std::string& path, std::string_view content, Overwrite overwrite) {
  write_output_file(path, overwrite, [&](FileWriter& w) { w.write(content); });
}

OutputDir::OutputDir(const std::string& target, Overwrite overwrite, Resumable resumable)
    : target_(target), overwrite_(overwrite) {
  while (target_.size() > 1 && target_.back() == '/') target_.pop_back();
  if (overwrite == Overwrite::kNo && file_exists(target_))
    fail(ErrorCode::kUsage, "{}: already exists (use --overwrite to replace it)", target_);
  lock_path_ = path_join(parent_of(target_), "." + base_name(target_) + ".lock");
  lock_fd_ = ::open(lock_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_fd_ < 0) fail(ErrorCode::kIo, "{}: cannot create lock file: {}", lock_path_, reason());
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(std::exchange(lock_fd_, -1));
    fail(ErrorCode::kIo, "{}: locked by another writer", target_);
  }
  const auto unlock = [&] {
    ::unlink(lock_path_.c_str());
    ::close(std::exchange(lock_fd_, -1));
  };
  remove_stale_partials(target_);
  partial_ = resumable == Resumable::kNo ? fmt::format("{}.partial-{}-{}", target_, ::getpid(), random_suffix())
                                         : target_ + ".partial";
  if (resumable != Resumable::kNo && is_directory(partial_)) {
    keep_ = true;
    if (resumable == Resumable::kContinue) return;
    unlock();
    fail(ErrorCode::kUsage, "{}: an unfinished run left this folder (continue it with --resume, or remove it)",
         partial_);
  }
  if (::mkdir(partial_.c_str(), 0755) != 0) {
    const std::string why = reason();
    unlock();
    fail(ErrorCode::kIo, "{}: cannot create directory: {}", partial_, why);
  }
}

std::string OutputDir::file(std::string_view name) const { return path_join(partial_, name); }

void OutputDir::commit() {
  fsync_path(partial_);
  if (overwrite_ == Overwrite::kYes && file_exists(target_)) {
    if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0)
      fail(ErrorCode::kIo, "{}: cannot replace: {}", target_, reason());
    std::error_code ec;
    fs::remove_all(partial_, ec);
  } else {
    rename_into_place(partial_, target_, overwrite_);
  }
  committed_ = true;
  fsync_path(parent_of(target_));
}

OutputDir::~OutputDir() {
  std::error_code ec;
  if (!committed_ && !keep_ && !partial_.empty()) fs::remove_all(partial_, ec);
  if (lock_fd_ >= 0) {
    ::unlink(lock_path_.c_str());
    ::close(lock_fd_);
  }
}

}  // namespace fettle
