#pragma once

#include <bit>
#include <cstdint>

#include "kernels/quant_kernels.h"

// Parts of activation quantisation that are the same scalar code at every ISA level.
namespace fettle::kernels {

// The 32 inputs of block b in position order: a pointer into x, or copied to `tail` with zeros where there is no k.
inline const float* act_block(const float* x, const ActKey& key, size_t b, float* tail) {
  const size_t begin = b * kActBlock;
  if (key.group == 0 && begin + kActBlock <= key.cols) return x + begin;
  for (size_t i = 0; i < kActBlock; ++i) {
    const size_t p = begin + i;
    size_t k = p;
    bool inside = true;
    if (key.group != 0) {
      const size_t offset = p % key.padded_group;
      k = p / key.padded_group * key.group + offset;
      inside = offset < key.group;
    }
    tail[i] = inside && k < key.cols ? x[k] : 0.0f;
  }
  return tail;
}

struct BlockScale {
  float scale, inverse;
  bool zero;  // store zeros
};

// bits: largest magnitude of the block. Non-finite blocks get scale NaN, so that every product is NaN; below 2^-100 the
// inverse could overflow, and such activations count as zero.
inline BlockScale block_scale(uint32_t bits, int limit) {
  if (bits >= 0x7F800000u) return {std::bit_cast<float>(0x7FC00000u), 0.0f, true};
  const float max = std::bit_cast<float>(bits);
  if (max < 0x1p-100f) return {0.0f, 0.0f, true};
  const auto top = static_cast<float>(limit);
  return {max / top, top / max, false};
}

// first, second: sums of the two halves of the block.
inline void store_block_sums(const ActKey& key, size_t b, float scale, int32_t first, int32_t second,
                             const ActRow& out) {
  out.scales[b] = scale;
  if (key.step == kActBlock) {
    out.corrections[b] = key.sum_factor * (first + second);
    out.sums[b] = scale * static_cast<float>(first + second);
  } else {
    out.corrections[2 * b] = key.sum_factor * first;
    out.corrections[2 * b + 1] = key.sum_factor * second;
    out.sums[2 * b] = scale * static_cast<float>(first);
    out.sums[2 * b + 1] = scale * static_cast<float>(second);
  }
}

}  // namespace fettle::kernels
