#include "base/random.h"

#include <cmath>

namespace fettle {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  constexpr uint64_t kM0 = 0xD2511F53, kM1 = 0xCD9E8D57;
  constexpr uint32_t kW0 = 0x9E3779B9, kW1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = kM0 * c[0], p1 = kM1 * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k = {k[0] + kW0, k[1] + kW1};
  }
  return c;
}

uint32_t Random::bits() {
  if (left_ == 0) {
    block_ = philox4x32({static_cast<uint32_t>(position_), static_cast<uint32_t>(position_ >> 32),
                         static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
                        {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
    ++position_;
    left_ = 4;
  }
  return block_[static_cast<size_t>(4 - left_--)];
}

double Random::uniform() {
  const uint64_t hi = bits() >> 5, lo = bits() >> 6;
  return static_cast<double>((hi << 26) | lo) * 0x1p-53;
}

float Random::normal() {
  const double u = 1.0 - uniform(), v = uniform();
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
}

uint64_t Random::below(uint64_t n) {
  const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
  for (;;) {
    const uint64_t x = (static_cast<uint64_t>(bits()) << 32) | bits();
    if (x < limit) return x % n;
  }
}

}  // namespace fettle
