#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fettle {
namespace {

thread_local bool t_inside_pool = false;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

constexpr auto kSpin = std::chrono::microseconds(50);

// Spins for a short while, so that the gap between two layers costs no sleep and wake-up.
template <typename Done>
bool spin_until(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake, finished;
  std::atomic<uint64_t> generation{0};  // job number; pairs release (run) / acquire (worker)
  std::atomic<int> running{0};          // workers that have not finished the current job
  std::atomic<bool> stop{false};
  std::atomic<size_t> next{0};
  size_t n = 0;
  const std::function<void(size_t)>* body = nullptr;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void work() {
    try {
      for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) (*body)(i);
    } catch (...) {
      next.store(n, std::memory_order_relaxed);
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void worker_loop() {
    t_inside_pool = true;
    uint64_t seen = 0;
    for (;;) {
      const auto changed = [&] { return stop.load() || generation.load(std::memory_order_acquire) != seen; };
      if (!spin_until(changed)) {
        std::unique_lock lock(mutex);
        wake.wait(lock, changed);
      }
      if (stop.load()) return;
      seen = generation.load(std::memory_order_acquire);
      work();
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads), state_(std::make_unique<State>()) {
  if (threads < 1 || threads > 1024) fail(ErrorCode::kUsage, "--threads {}: expected 1 to 1024", threads);
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([this] { state_->worker_loop(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop.store(true);
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

void ThreadPool::parallel_for(size_t n, const std::function<void(size_t)>& body) {
  if (threads_ == 1 || n <= 1 || t_inside_pool) {
    for (size_t i = 0; i < n; ++i) body(i);
    return;
  }
  State& s = *state_;
  s.n = n;
  s.body = &body;
  s.error = nullptr;
  s.next.store(0, std::memory_order_relaxed);
  s.running.store(threads_ - 1, std::memory_order_relaxed);
  {
    std::lock_guard lock(s.mutex);
    s.generation.fetch_add(1, std::memory_order_release);
  }
  s.wake.notify_all();
  t_inside_pool = true;
  s.work();
  t_inside_pool = false;
  const auto done = [&] { return s.running.load(std::memory_order_acquire) == 0; };
  if (!spin_until(done)) {
    std::unique_lock lock(s.mutex);
    s.finished.wait(lock, done);
  }
  std::lock_guard lock(s.mutex);  // the last worker may still hold it in its notify
  if (s.error) std::rethrow_exception(s.error);
}

void ThreadPool::parallel_chunks(size_t n, size_t grain, const std::function<void(size_t, size_t)>& body) {
  FETTLE_CHECK(grain > 0);
  const size_t chunks = (n + grain - 1) / grain;
  parallel_for(chunks, [&](size_t c) { body(c * grain, std::min(n, (c + 1) * grain)); });
}

}  // namespace fettle
