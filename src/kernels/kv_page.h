#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

// The bytes of one KV head inside a page: what attention reads and the cache writes.
//
// A page holds `slots` consecutive tokens (power of two, 16..256) as slots / 16 tiles. For each KV head, contiguous:
//   K tiles, V tiles, and for I8 the scales of K then V, F32 [slots] each.
//   dtype   U   K tile                    V tile            U = values per 32-bit lane
//   F32     1   [D][16]                   [16][Dv]
//   BF16    2   [ceil(D/2)][16][2]        [8][Dv][2]
//   I8      4   [ceil(D/4)][16][4]        [4][Dv][4]
// So 64 bytes of K are 16 keys x U dims, and 64 bytes of V are U keys x 16 dims: no transposition in any kernel.
namespace fettle::kernels {

constexpr size_t kTileSlots = 16;
// A kernel reads V in units of 64 bytes, so a page must be followed by this many readable bytes.
constexpr size_t kPageSlackBytes = 64;

struct PageLayout {
  DType dtype = DType::kBF16;  // F32, BF16 or I8
  size_t slots = 64;
  size_t head_dim = 0;   // D of K
  size_t value_dim = 0;  // Dv of V

  size_t unit() const { return dtype == DType::kF32 ? 1 : dtype == DType::kBF16 ? 2 : 4; }
  size_t k_tile_bytes() const { return (head_dim + unit() - 1) / unit() * 64; }
  size_t v_tile_bytes() const { return kTileSlots / unit() * value_dim * 4; }
  size_t v_offset() const { return slots / kTileSlots * k_tile_bytes(); }
  size_t scale_offset() const { return v_offset() + slots / kTileSlots * v_tile_bytes(); }
  // Bytes per KV head, a multiple of 64.
  size_t head_bytes() const {
    const size_t scales = dtype == DType::kI8 ? 2 * slots * sizeof(float) : 0;
    return (scale_offset() + scales + 63) / 64 * 64;
  }
};

// Throws kUsage unless slots is a power of two in [16, 256], dims are in [1, 4096] and the dtype is one of the above.
void check_page_layout(const PageLayout& layout);

// Writes one token's K [head_dim] and V [value_dim] of one head into `slot`. BF16 rounds to nearest even; I8 is
// symmetric per token and head, scale = max|x| / 127, round half to even. `head` is the head's first byte in the page.
void store_kv_row(const PageLayout& layout, std::byte* head, size_t slot, const float* k, const float* v);

// Writes already quantised rows and their scales (layout.dtype must be I8).
void store_kv_row_i8(const PageLayout& layout, std::byte* head, size_t slot, const int8_t* k, float k_scale,
                     const int8_t* v, float v_scale);

// Reads one token back as F32.
void load_kv_row(const PageLayout& layout, const std::byte* head, size_t slot, float* k, float* v);

}  // namespace fettle::kernels
