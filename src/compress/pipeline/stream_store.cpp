#include "compress/pipeline/stream_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"

namespace fettle::compress {

struct StreamStore::Mapping {
  ~Mapping() {
    if (data != MAP_FAILED) ::munmap(data, size);
  }
  void* data = MAP_FAILED;
  size_t size = 0;
  bool spilled = false;
};

namespace {

// A file of `size` bytes that has no name, so that it cannot outlive the process.
int unnamed_file(const std::string& dir, size_t size) {
  const int fd = ::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) fail(ErrorCode::kIo, "{}: cannot create a file for activations: {}", dir, std::strerror(errno));
  if (const int error = ::posix_fallocate(fd, 0, static_cast<off_t>(size)); error != 0) {
    ::close(fd);
    fail(ErrorCode::kResource, "{}: expected {} bytes of disk for activations: {}", dir, size, std::strerror(error));
  }
  return fd;
}

}  // namespace

StreamStore::StreamStore(const std::vector<size_t>& rows, size_t width, const std::string& spill_dir)
    : offsets_{0}, width_(width), mapping_(std::make_unique<Mapping>()) {
  for (const size_t n : rows) offsets_.push_back(offsets_.back() + n);
  uint64_t elements = 0, wanted = 0;
  if (!checked_mul(offsets_.back(), width, &elements) || !checked_mul(elements, sizeof(float), &wanted))
    fail(ErrorCode::kResource, "{} x {} activations do not fit any memory", offsets_.back(), width);
  const size_t size = std::max<size_t>(wanted, 1);
  const int fd = spill_dir.empty() ? -1 : unnamed_file(spill_dir, size);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (data == MAP_FAILED)
    fail(ErrorCode::kResource, "cannot map {} bytes for activations: {}", size, std::strerror(error));
  mapping_->data = data;
  mapping_->size = size;
  mapping_->spilled = fd >= 0;
}

StreamStore::~StreamStore() = default;
StreamStore::StreamStore(StreamStore&&) noexcept = default;
StreamStore& StreamStore::operator=(StreamStore&&) noexcept = default;

MatView<float> StreamStore::sample(size_t i) const {
  FETTLE_CHECK(i + 1 < offsets_.size());
  return {static_cast<float*>(mapping_->data) + offsets_[i] * width_, offsets_[i + 1] - offsets_[i], width_};
}

void StreamStore::done(size_t i) const {
  if (!mapping_->spilled) return;
  // Whole pages only; neighbours share the ones at the ends.
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = round_up(offsets_[i] * width_ * sizeof(float), page);
  const size_t end = offsets_[i + 1] * width_ * sizeof(float) / page * page;
  if (end > begin) ::madvise(static_cast<std::byte*>(mapping_->data) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace fettle::compress
