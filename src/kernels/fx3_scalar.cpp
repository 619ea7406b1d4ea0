#include "kernels/fx3_kernels.h"

namespace fettle::kernels {
namespace {

void decode(const uint8_t* tile, size_t count, const uint8_t* table, uint16_t* out) {
  for (size_t i = 0; i < count; ++i, tile += formats::kFx3TileBytes, out += formats::kFx3Tile)
    for (size_t b = 0; b < formats::kFx3IndexBytes; ++b) {
      const uint8_t* low = tile + formats::kFx3IndexBytes + b;
      out[formats::fx3_weight_of(b)] = static_cast<uint16_t>(table[tile[b] & 15] << 8 | low[0]);
      out[formats::fx3_weight_of(b + 32)] = static_cast<uint16_t>(table[tile[b] >> 4] << 8 | low[32]);
    }
}

}  // namespace

const Fx3Kernel& scalar_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"scalar", Isa::kScalar, &decode};
  return kKernel;
}

const Fx3Kernel& fx3_kernel(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512 && __builtin_cpu_supports("avx512vbmi"))
    return isa >= Isa::kAvx512Bf16 ? avx512_bf16_fx3_kernel() : avx512_fx3_kernel();
  if (isa >= Isa::kAvx2) return avx2_fx3_kernel();
#endif
  return scalar_fx3_kernel();
}

}  // namespace fettle::kernels
