#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/cpu.h"
#include "tensor/formats/fx3.h"

// Kernels of FX3 weights (tensor/formats/fx3.h), per ISA level. All products have the bits of the dense BF16 kernel of
// the same level: batches decode panels and multiply by it, one token is fused in the same order of additions.
namespace fettle::kernels {

// Puts one exception of a panel back.
struct Fx3Patch {
  uint8_t row;   // of the eight
  uint8_t tile;  // of the panel
  uint8_t at;    // weight of the tile
  uint8_t high;  // its high byte
};
inline constexpr size_t kFx3MaxPatches = 64;  // per panel; panels with more are decoded

inline constexpr size_t kFx3FusedRows = 8;

// A panel of eight rows that share a table times one token: y[r] += sum_k x[k] w[r][k].
struct Fx3DotArgs {
  const uint8_t* tiles;  // of row 0; the others `stride` bytes apart
  size_t stride;
  size_t count;  // tiles of a row, at most 16 = kDenseBlockK weights
  const uint8_t* table;
  const uint8_t* x;        // [64 * count] activations in the dense level's form
  uint32_t patched_tiles;  // bit t: some row has an exception in tile t
  const Fx3Patch* patches;
  size_t patch_count;
  float* y;  // [8]
};

struct Fx3Kernel {
  std::string_view name;
  Isa isa;
  // tiles: [count][96] of a row; out: [64 * count] words, without exceptions.
  void (*decode)(const uint8_t* tiles, size_t count, const uint8_t* table, uint16_t* out);
  // Null where there is no fused product.
  void (*dot)(const Fx3DotArgs& args) = nullptr;
};

const Fx3Kernel& scalar_fx3_kernel();
#if defined(__x86_64__)
const Fx3Kernel& avx2_fx3_kernel();
const Fx3Kernel& avx512_fx3_kernel();  // both need VBMI beside the level
const Fx3Kernel& avx512_bf16_fx3_kernel();
#endif

// The best one at or below `isa` that this machine can run.
const Fx3Kernel& fx3_kernel(Isa isa);

}  // namespace fettle::kernels
