#include "kernels/roofline.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "kernels/roofline_kernels.h"

namespace fettle::kernels {
namespace {

constexpr size_t kReadPiece = size_t{16} << 20;  // per thread; a millisecond

double seconds_now(bool cpu_time) {
  timespec t{};
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

uint64_t scalar_read(const uint8_t* p, size_t bytes) {
  uint64_t sum[4] = {};
  for (size_t i = 0; i < bytes; i += sizeof sum)
    for (size_t j = 0; j < 4; ++j) {
      uint64_t v;
      std::memcpy(&v, p + i + 8 * j, 8);
      sum[j] |= v;
    }
  return sum[0] | sum[1] | sum[2] | sum[3];
}

double scalar_f32(size_t n, float* sink) {
  float sum[16] = {};
  for (size_t i = 0; i < n; ++i)
    for (float& s : sum) s = s * 0.999f + 1.0f;
  for (float s : sum) *sink += s;
  return static_cast<double>(n) * 16 * 2;
}

const PeakKernels kScalarPeaks = {&scalar_read, &scalar_f32, nullptr, nullptr, nullptr};

const PeakKernels& peaks(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kScalar:
      return kScalarPeaks;
    case Isa::kAvx2:
      return kAvx2Peaks;
    case Isa::kAvx512:
      return kAvx512Peaks;
    case Isa::kAvx512Vnni:
      return kAvx512VnniPeaks;
    case Isa::kAvx512Bf16:
      return kAvx512Bf16Peaks;
  }
#endif
  (void)isa;
  return kScalarPeaks;
}

// Best rate in 10^9 per second over the repetitions, all threads working.
template <typename Work>
double best_rate(ThreadPool& pool, const RooflineOptions& options, const Work& work) {
  const auto threads = static_cast<size_t>(pool.size());
  std::vector<double> done(threads);
  double best = 0;
  auto body = [&](size_t i) { done[i] = work(i); };
  for (int r = 0; r < options.repetitions; ++r) {
    const double start = seconds_now(options.cpu_time);
    pool.parallel_for(threads, std::ref(body));
    const double seconds = seconds_now(options.cpu_time) - start;
    double total = 0;
    for (double d : done) total += d;
    best = std::max(best, total / seconds * 1e-9);
  }
  return best;
}

}  // namespace

Roofline measure_roofline(ThreadPool& pool, Isa isa, const RooflineOptions& options) {
  FETTLE_CHECK(!options.cpu_time || pool.size() == 1);
  const PeakKernels& k = peaks(isa);
  const auto threads = static_cast<size_t>(pool.size());
  const size_t share = options.read_bytes / threads / 4096 * 4096;
  AlignedBuffer<uint8_t> memory(share * threads);
  std::vector<uint64_t> found(threads * 8);
  best_rate(pool, {.repetitions = 1}, [&](size_t i) {  // first touch by the pool's threads
    std::memset(memory.data() + i * share, 1, share);
    return 0.0;
  });
  Roofline out;
  // Short pieces, the best one counts, as kernels are timed.
  const size_t piece = std::min(share, kReadPiece);
  for (size_t begin = 0; begin + piece <= share; begin += piece) {
    const double rate = best_rate(pool, {.repetitions = 1, .cpu_time = options.cpu_time}, [&](size_t i) {
      found[i * 8] |= k.read(memory.data() + i * share + begin, piece);
      return static_cast<double>(piece);
    });
    out.read_gbs = std::max(out.read_gbs, rate);
  }
  std::vector<float> sinks(threads * 16);
  constexpr size_t kRounds = 2'000'000;
  const auto rate = [&](double (*f)(size_t, float*)) {
    return f ? best_rate(pool, options, [&](size_t i) { return f(kRounds, &sinks[i * 16]); }) : 0.0;
  };
  out.f32_gflops = rate(k.f32);
  out.int8_gops = rate(k.int8);
  out.int16_gops = rate(k.int16);
  out.bf16_gflops = rate(k.bf16);
  return out;
}

}  // namespace fettle::kernels
