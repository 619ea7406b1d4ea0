#pragma once

#include <atomic>

#include "base/error.h"

namespace fettle {

// A request to stop that long loops look at between steps. cancel() is async-signal-safe, so that a signal handler may
// call it; the loop's thread then unwinds with kCancelled and its destructors remove what was half written.
class CancelToken {
 public:
  void cancel(int signal) { signal_.store(signal, std::memory_order_relaxed); }
  bool cancelled() const { return signal_.load(std::memory_order_relaxed) != 0; }
  int signal() const { return signal_.load(std::memory_order_relaxed); }  // 0 = not cancelled
  void check() const {
    if (cancelled()) fail(ErrorCode::kCancelled, "interrupted");
  }

 private:
  std::atomic<int> signal_{0};
};

inline void check_cancel(const CancelToken* token) {
  if (token != nullptr) token->check();
}

}  // namespace fettle
