#include "context.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <cstring>

#include "base/cpu.h"
#include "base/log.h"

namespace fettle::cli {

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) throw_error(ErrorCode::kIo, std::string(kReaderGone));
    if (n < 0) fail(ErrorCode::kIo, "stdout: {}", std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void print_json(const Json& value) { print(value.dump(2) + "\n"); }

bool stdin_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }

std::string read_stdin(size_t max_bytes) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "stdin: {}", std::strerror(errno));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > max_bytes) fail(ErrorCode::kInput, "stdin: expected at most {} bytes of text", max_bytes);
  }
}

bool read_line(std::string& line, const CancelToken& cancel) {
  constexpr size_t kMaxLine = size_t{16} << 20;
  line.clear();
  for (;;) {
    cancel.check();
    pollfd waiting{STDIN_FILENO, POLLIN, 0};
    if (::poll(&waiting, 1, 200) <= 0) continue;  // wakes up to look at the token
    char c = 0;
    const ssize_t n = ::read(STDIN_FILENO, &c, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "stdin: {}", std::strerror(errno));
    if (n == 0) return !line.empty();
    if (c == '\n') return true;
    if (line.size() == kMaxLine) fail(ErrorCode::kInput, "stdin: expected lines of at most {} bytes", kMaxLine);
    line += c;
  }
}

void add_common(Command& command, Common& common) {
  command.option("-t,-tb,--threads-batch,--threads", &common.threads, "N", "threads (default: all CPUs allowed)");
  command.option("--isa", &common.isa, "LEVEL", "force a kernel level: scalar, avx2, avx512, avx512_vnni, avx512_bf16");
  command.toggle("--json", &common.json, "print one machine-readable object");
  command.toggle("-q,--quiet", &common.quiet, "no progress and no information on stderr");
  command.toggle("-v,--verbose", &common.verbose, "more on stderr");
}

int thread_count(const Common& common) {
  if (common.threads == 0) return available_cpus();
  return static_cast<int>(in_range("--threads", common.threads, 1, 1024));
}

std::unique_ptr<ThreadPool> start(const Common& common) {
  set_log_level(common.quiet ? LogLevel::kQuiet : common.verbose ? LogLevel::kDebug : LogLevel::kInfo);
  if (!common.isa.empty()) force_isa(parse_isa(common.isa));
  return std::make_unique<ThreadPool>(thread_count(common));
}

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.2f} {}", bytes, kUnits[unit]);
}

size_t in_range(std::string_view option, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    fail(ErrorCode::kUsage, "{}: expected a number in [{}, {}], found {}", option, low, high, value);
  return static_cast<size_t>(value);
}

}  // namespace fettle::cli
