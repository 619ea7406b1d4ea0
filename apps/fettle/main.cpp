#include <csignal>
#include <new>
#include <stdexcept>

#include "base/error.h"
#include "base/log.h"
#include "commands.h"
#include "context.h"

namespace fettle::cli {
namespace {

CancelToken g_cancel;  // set by the signal handler, read by the loops

// First signal: ask the loops to stop, so that partial output is removed. Second: the default action.
extern "C" void on_signal(int signal) {
  if (g_cancel.cancelled()) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  g_cancel.cancel(signal);
}

void install_signals() {
  struct sigaction action {};
  action.sa_handler = &on_signal;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a read from the terminal must return when Ctrl-C is pressed.
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // Arrive as EPIPE and EFBIG from write(), where they can be reported.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

int report(ErrorCode code, std::string_view message) {
  if (message != kReaderGone) {
    const std::string line = fmt::format("error[{}] {}", error_name(code), message);
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  if (code == ErrorCode::kCancelled && g_cancel.signal() != 0) return 128 + g_cancel.signal();
  return exit_status(code);
}

int run(int argc, char** argv) {
  install_signals();
  Program program(g_cancel);
  add_all_commands(program);
  try {
    program.run({argv + 1, argv + argc});
    return 0;
  } catch (const Error& e) {
    return report(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return report(ErrorCode::kResource, "out of memory");
  } catch (const std::length_error& e) {
    return report(ErrorCode::kResource, e.what());
  } catch (const std::exception& e) {
    return report(ErrorCode::kInternal, e.what());
  }
}

}  // namespace
}  // namespace fettle::cli

int main(int argc, char** argv) { return fettle::cli::run(argc, argv); }
