#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>

namespace fettle {
namespace {
std::atomic<LogLevel> g_level{LogLevel::kInfo};
}

void set_log_level(LogLevel level) { g_level.store(level); }
LogLevel log_level() { return g_level.load(); }

void log_line(LogLevel level, std::string_view text) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  const char* head = level == LogLevel::kWarning ? "warning: " : "";
  std::fprintf(stderr, "%s%.*s\n", head, static_cast<int>(text.size()), text.data());
}

Progress::Progress(std::string_view label, size_t total)
    : label_(label), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (terminal_ && last_percent_ >= 0 && log_level() >= LogLevel::kInfo) std::fputs("\r\033[K", stderr);
}

void Progress::update(size_t done) {
  if (total_ == 0 || log_level() < LogLevel::kInfo) return;
  const int percent = static_cast<int>(100 * done / total_);
  const int step = terminal_ ? 1 : 10;
  if (percent / step == last_percent_ / step && last_percent_ >= 0) return;
  last_percent_ = percent;
  if (terminal_) {
    const int filled = percent * 30 / 100;
    std::fprintf(stderr, "\r%s [%.*s%.*s] %3d %%", label_.c_str(), filled, "##############################",
                 30 - filled, "..............................", percent);
    std::fflush(stderr);
  } else {
    std::fprintf(stderr, "%s %d %%\n", label_.c_str(), percent);
  }
}

}  // namespace fettle
