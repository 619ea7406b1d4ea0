#pragma once

#include <fmt/format.h>

#include <string_view>

namespace fettle {

enum class LogLevel { kQuiet, kWarning, kInfo, kDebug };

void set_log_level(LogLevel level);
LogLevel log_level();
void log_line(LogLevel level, std::string_view text);  // one line to stderr

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kInfo) log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kWarning) log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kDebug) log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

// Progress on stderr: a bar on a terminal, else one line per 10 %; silent when quiet.
class Progress {
 public:
  Progress(std::string_view label, size_t total);
  ~Progress();
  void update(size_t done);

 private:
  std::string label_;
  size_t total_;
  int last_percent_ = -1;
  bool terminal_;
};

}  // namespace fettle
