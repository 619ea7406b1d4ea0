#pragma once

#include <array>
#include <cstdint>

namespace fettle {

// Philox4x32-10 (Salmon et al., SC 2011): a counter-based generator, so any position of any stream is a pure function
// of (key, counter) and never depends on what else was drawn.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Sequential view of one stream.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}
  uint32_t bits();
  double uniform();            // [0, 1), 53 bits
  float normal();              // mean 0, deviation 1 (Box-Muller)
  uint64_t below(uint64_t n);  // unbiased, n > 0

 private:
  uint64_t seed_, stream_, position_ = 0;
  std::array<uint32_t, 4> block_{};
  int left_ = 0;
};

}  // namespace fettle
