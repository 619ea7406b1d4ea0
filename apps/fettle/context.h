#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/thread_pool.h"
#include "program.h"

namespace fettle::cli {

// Standard output, written through. Throws kIo when it cannot be written; a reader that went away (EPIPE) throws too,
// with a message that main() keeps quiet about.
void print(std::string_view text);
void print_json(const Json& value);
inline constexpr std::string_view kReaderGone = "stdout: the reader closed the pipe";

bool stdin_is_terminal();
bool stdout_is_terminal();
// Standard input to its end. Throws kInput for more than max_bytes, kIo when reading fails.
std::string read_stdin(size_t max_bytes);
// One line without its end; false at end of input. Throws kCancelled when the token fires while waiting.
bool read_line(std::string& line, const CancelToken& cancel);

// Options that every command shares.
struct Common {
  int64_t threads = 0;  // 0 = all CPUs this process may use
  std::string isa;
  bool json = false, quiet = false, verbose = false;
};
void add_common(Command& command, Common& common);
// Applies log level and kernel level and starts the threads. Throws kUsage.
std::unique_ptr<ThreadPool> start(const Common& common);
int thread_count(const Common& common);

// Sizes for people: "10.4 MiB".
std::string human_bytes(double bytes);

// Checks ranges of counts that come from flags. Throws kUsage naming option, range and value.
size_t in_range(std::string_view option, int64_t value, int64_t low, int64_t high);

}  // namespace fettle::cli
