#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace fettle {

// Fixed set of workers for data-parallel loops. Owner: one thread at a time calls run(); workers sleep between calls
// after spinning for at most about 50 us. Results must not depend on the number of threads: split work by problem size
// (parallel_for hands out whole items), never reduce across threads in arrival order.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // >= 1; 1 runs everything on the caller. Throws kUsage outside [1, 1024].
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  // Calls body(i) once for every i in [0, n), items handed out dynamically in ascending order. The first exception
  // thrown by a body is rethrown here after all workers stopped. Nested calls run serially on the calling worker.
  void parallel_for(size_t n, const std::function<void(size_t)>& body);

  // The same over chunks: body(begin, end) with end - begin <= grain; boundaries are multiples of grain whatever the
  // number of threads.
  void parallel_chunks(size_t n, size_t grain, const std::function<void(size_t, size_t)>& body);

 private:
  struct State;
  int threads_;
  std::unique_ptr<State> state_;
};

}  // namespace fettle
