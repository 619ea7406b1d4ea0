#pragma once

#include <cstddef>

#include "base/cpu.h"
#include "base/thread_pool.h"

// What this machine can do at most, measured, so that kernels can be judged as a fraction of it.
namespace fettle::kernels {

// Rates of the whole pool; one multiply-add counts as two operations. 0: the level has no such instruction.
struct Roofline {
  double read_gbs = 0;     // GB/s (10^9), sequential reads far larger than the caches
  double f32_gflops = 0;   // fused multiply-add
  double int8_gops = 0;    // u8 x s8: vpdpbusd, or vpmaddubsw with a 16-bit add (AVX2)
  double int16_gops = 0;   // s16 x s16: vpdpwssd, or vpmaddwd with a 32-bit add
  double bf16_gflops = 0;  // vdpbf16ps
};

struct RooflineOptions {
  size_t read_bytes = size_t{512} << 20;  // must exceed the last-level cache several times
  int repetitions = 5;                    // the best one counts: other load only slows things down
  bool cpu_time = false;  // one thread only: count the thread's CPU time, so that other load is left out
};

// Takes about read_bytes / bandwidth + repetitions x 0.1 s. Allocates read_bytes and reads it once, in short pieces.
Roofline measure_roofline(ThreadPool& pool, Isa isa, const RooflineOptions& options = {});

}  // namespace fettle::kernels
