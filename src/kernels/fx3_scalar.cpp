#include <cstring>

#include "kernels/fx3_kernels.h"
#include "tensor/formats/fx3.h"

namespace fettle::kernels {
namespace {

const uint8_t* decode(const uint8_t* tile, size_t count, uint8_t base, const uint8_t* escapes, uint16_t* out) {
  for (size_t i = 0; i < count; ++i, tile += formats::kFx3TileBytes, out += formats::kFx3Tile) {
    uint64_t planes[3];
    std::memcpy(planes, tile, sizeof planes);
    const uint8_t* sm = tile + sizeof planes;
    for (size_t j = 0; j < formats::kFx3Tile; ++j) {
      const auto code = static_cast<int>((planes[0] >> j & 1) | (planes[1] >> j & 1) << 1 | (planes[2] >> j & 1) << 2);
      const int exponent = code == 7 ? *escapes++ : base + code;
      out[formats::fx3_weight_of(j)] = static_cast<uint16_t>((sm[j] & 0x80) << 8 | exponent << 7 | (sm[j] & 0x7F));
    }
  }
  return escapes;
}

#if defined(__x86_64__)
bool has_vbmi2() { return __builtin_cpu_supports("avx512vbmi2"); }
#endif

}  // namespace

const Fx3Kernel& scalar_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"scalar", Isa::kScalar, &decode};
  return kKernel;
}

const Fx3Kernel& fx3_kernel(Isa isa) {
#if defined(__x86_64__)
  if (isa >= avx512_fx3_kernel().isa && has_vbmi2()) return avx512_fx3_kernel();
  if (isa >= avx2_fx3_kernel().isa) return avx2_fx3_kernel();
#endif
  return scalar_fx3_kernel();
}

}  // namespace fettle::kernels
