#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/cpu.h"

// Decoding of FX3 tiles (tensor/formats/fx3.h) back to BF16, per ISA level. The product runs on decoded panels with the
// dense BF16 kernels, so that its bits are those of a BF16 weight.
namespace fettle::kernels {

// Words a decoder may touch behind the tiles it was asked for.
inline constexpr size_t kFx3OutSlack = 1;

// One panel of up to 16 whole tiles of four rows, times one token.
struct Fx3DotArgs {
  const uint8_t* tiles[4];
  const uint8_t* next[4];     // tiles of the panel that follows, to be prefetched; any address
  const uint8_t* escapes[4];  // moved behind those of the panel
  uint8_t base[4];
  size_t count;
  const float* x;  // [64 * count]
  float* y;        // [4], the panel's sums are added
};

struct Fx3Kernel {
  std::string_view name;
  Isa isa;
  // tiles: [count][88]; escapes: the next escape bytes, readable for 64 bytes beyond the last; out: [64 * count] words
  // and slack. Returns the escapes that follow.
  const uint8_t* (*decode)(const uint8_t* tiles, size_t count, uint8_t base, const uint8_t* escapes, uint16_t* out);
  // Without a detour through memory: the bits of the dense BF16 product of the same level. Null where decoding and a
  // dense product are as fast.
  void (*dot)(Fx3DotArgs& args) = nullptr;
};

const Fx3Kernel& scalar_fx3_kernel();
#if defined(__x86_64__)
const Fx3Kernel& avx2_fx3_kernel();
const Fx3Kernel& avx512_fx3_kernel();  // needs VBMI2 beside the level
#endif

// The best one at or below `isa` that this machine can run.
const Fx3Kernel& fx3_kernel(Isa isa);

}  // namespace fettle::kernels
