#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tensor/df11/unit.h"

// Plain model of the paper's GPU kernel, for tests: one thread per 64-bit chunk, 512 threads per block; phase 1 counts
// the codes that start in the chunk, a prefix sum gives each thread its place, phase 2 decodes again and writes.
namespace fettle::df11::test {

struct GpuResult {
  std::vector<uint16_t> weights;
  std::vector<size_t> block_counts;  // codes that start in each block, garbage behind the end included
};

class GpuModel {
 public:
  explicit GpuModel(const UnitView& u) : u_(u), pages_(u.luts.size() / 256 - 1) {}

  GpuResult run() const {
    GpuResult r;
    const size_t n = u_.sign_mantissa.size(), bytes = u_.encoded_exponent.size();
    r.weights.assign(n, 0);
    for (size_t block = 0; block * kBlockBytes < bytes; ++block) {
      std::vector<size_t> counts(kBlockChunks);
      for (size_t t = 0; t < kBlockChunks; ++t) counts[t] = chunk(block, t).size();
      size_t at = position(block), total = 0;
      for (size_t t = 0; t < kBlockChunks; ++t) {
        size_t i = at + total;
        for (const uint8_t e : chunk(block, t)) {
          if (i < n) {
            const uint8_t sm = u_.sign_mantissa[i];
            r.weights[i] = static_cast<uint16_t>((sm & 0x80) << 8 | e << 7 | (sm & 0x7F));
          }
          ++i;
        }
        total += counts[t];
      }
      r.block_counts.push_back(total);
    }
    return r;
  }

  size_t position(size_t block) const {
    size_t v = 0;
    for (size_t i = 0; i < 4; ++i) v |= static_cast<size_t>(u_.output_positions[4 * block + i]) << (8 * i);
    return v;
  }

 private:
  uint32_t bits(uint64_t at, int count) const {  // zero past the end
    uint32_t v = 0;
    for (int i = 0; i < count; ++i, ++at) {
      const auto byte = static_cast<size_t>(at / 8);
      v = v << 1 | (byte < u_.encoded_exponent.size() ? u_.encoded_exponent[byte] >> (7 - at % 8) & 1u : 0u);
    }
    return v;
  }

  std::vector<uint8_t> chunk(size_t block, size_t thread) const {
    const uint64_t start = (block * kBlockChunks + thread) * 64;
    std::vector<uint8_t> symbols;
    if (start / 8 >= u_.encoded_exponent.size()) return symbols;
    uint32_t gap = 0;
    for (size_t i = 0; i < 5; ++i) {
      const size_t bit = 5 * thread + i;
      gap = gap << 1 | (u_.gaps[block * kGapBytes + bit / 8] >> (7 - bit % 8) & 1u);
    }
    for (uint64_t at = start + gap; at < start + 64;) {
      const uint32_t ahead = bits(at, 32);
      size_t page = 0;
      uint8_t v = 0;
      for (int shift = 24; shift >= 0; shift -= 8) {
        v = u_.luts[page * 256 + (ahead >> shift & 0xFF)];
        if (v < kFirstPointer) break;
        page = 256u - v;
      }
      symbols.push_back(v);
      at += std::max<uint8_t>(1, u_.luts[pages_ * 256 + v]);
    }
    return symbols;
  }

  UnitView u_;
  size_t pages_;
};

}  // namespace fettle::df11::test
