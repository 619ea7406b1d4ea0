#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace fettle {

// Error classes of the user-visible contract. Names are printed as error[E_INPUT]; exit codes follow the table in
// docs/errors.md.
enum class ErrorCode {
  kUsage,      // bad flag or argument                         exit 2
  kInput,      // malformed, inconsistent or unsupported file  exit 3
  kResource,   // would exceed memory, disk, context, queue    exit 4
  kIo,         // read, write, permission, disk full           exit 5
  kRemote,     // upstream or network                          exit 6
  kNumeric,    // non-finite values, failed verification       exit 7
  kCancelled,  // signal, disconnect, deadline                 exit 130
  kInternal,   // our own mistake                              exit 70
};

std::string_view error_name(ErrorCode code);  // "E_INPUT"
int exit_status(ErrorCode code);

// The one exception type that crosses library boundaries.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

[[noreturn]] void throw_error(ErrorCode code, std::string message);

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw_error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Escapes control characters, bidi marks and invalid UTF-8 of a string that came from outside, and cuts it to
// max_bytes, so that it can stand in a message or a log line.
std::string printable(std::string_view untrusted, size_t max_bytes = 200);

[[noreturn]] void check_failed(const char* file, int line, const char* expression, std::string detail = {});

}  // namespace fettle

// Our own mistakes: always on, throws kInternal.
#define FETTLE_CHECK(cond)                               \
  do {                                                   \
    if (!(cond)) [[unlikely]]                            \
      ::fettle::check_failed(__FILE__, __LINE__, #cond); \
  } while (0)

#define FETTLE_CHECK_EQ(a, b)                                                                                  \
  do {                                                                                                         \
    const auto& fettle_a_ = (a);                                                                               \
    const auto& fettle_b_ = (b);                                                                               \
    if (!(fettle_a_ == fettle_b_)) [[unlikely]]                                                                \
      ::fettle::check_failed(__FILE__, __LINE__, #a " == " #b, fmt::format("{} vs {}", fettle_a_, fettle_b_)); \
  } while (0)

#ifdef NDEBUG
#define FETTLE_DCHECK(cond) ((void)0)
#else
#define FETTLE_DCHECK(cond) FETTLE_CHECK(cond)
#endif
