#include <cstdlib>
#include <new>

#include "io/test_util.h"

// Counts what the readers ask for, so that tests can hold them to their memory limits.
namespace {
thread_local size_t g_allocated = 0;
}

void* operator new(size_t n) {
  g_allocated += n;
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace fettle::io {
AllocationMeter::AllocationMeter() : start_(g_allocated) {}
size_t AllocationMeter::bytes() const { return g_allocated - start_; }
}  // namespace fettle::io
