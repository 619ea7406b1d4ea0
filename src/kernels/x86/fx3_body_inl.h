// FX3 decoding and fused products of one x86 level, on that level's dense vectors (dense_vec_*.h) and its FX3 loader
// (fx3_vec_*.h); included inside its namespace. Sums have one register per row, filled in the order of the dense
// kernel, so that the bits are the same.

constexpr size_t kFx3Rows = kFx3FusedRows;

void fx3_decode(const uint8_t* tile, size_t count, const uint8_t* table, uint16_t* out) {
  const Fx3Table highs(table);
  for (size_t i = 0; i < count; ++i, tile += formats::kFx3TileBytes, out += formats::kFx3Tile)
    Fx3Words(highs, tile).store(out);
}

// Tiles [begin, end) without exceptions. Eight rows at once: eight streams keep enough lines on their way from memory,
// eight sums hide the latency of fma.
inline void fx3_whole_tiles(const Fx3DotArgs& d, size_t begin, size_t end, V (&sums)[kFx3Rows]) {
  const Fx3Table highs(d.table);
  const uint8_t* tile = d.tiles + begin * formats::kFx3TileBytes;
  const uint8_t* x = d.x + begin * kFx3XBytes;
  V sum[kFx3Rows];
  for (size_t r = 0; r < kFx3Rows; ++r) sum[r] = sums[r];
  for (size_t i = begin; i < end; ++i, tile += formats::kFx3TileBytes, x += kFx3XBytes) {
    const uint8_t* at = tile;
#pragma GCC unroll 8
    for (size_t r = 0; r < kFx3Rows; ++r, at += d.stride) sum[r] = Fx3Words(highs, at).fma(x, sum[r]);
  }
  for (size_t r = 0; r < kFx3Rows; ++r) sums[r] = sum[r];
}

// One tile whose exceptions are put back first.
void fx3_patched_tile(const Fx3DotArgs& d, size_t tile, V (&sums)[kFx3Rows]) {
  alignas(64) uint16_t words[kFx3Rows][formats::kFx3Tile];
  for (size_t r = 0; r < kFx3Rows; ++r)
    fx3_decode(d.tiles + r * d.stride + tile * formats::kFx3TileBytes, 1, d.table, words[r]);
  for (size_t i = 0; i < d.patch_count; ++i) {
    const Fx3Patch& p = d.patches[i];
    if (p.tile == tile) words[p.row][p.at] = static_cast<uint16_t>(p.high << 8 | (words[p.row][p.at] & 0xFF));
  }
  for (size_t r = 0; r < kFx3Rows; ++r) sums[r] = fx3_fma_plain(words[r], d.x + tile * kFx3XBytes, sums[r]);
}

void fx3_dot(const Fx3DotArgs& d) {
  V sums[kFx3Rows];
  for (V& s : sums) s = zero_v();
  size_t done = 0;
  for (uint32_t left = d.patched_tiles; left != 0; left &= left - 1) {
    const auto tile = static_cast<size_t>(__builtin_ctz(left));
    fx3_whole_tiles(d, done, tile, sums);
    fx3_patched_tile(d, tile, sums);
    done = tile + 1;
  }
  fx3_whole_tiles(d, done, d.count, sums);
  for (size_t r = 0; r < kFx3Rows; ++r) d.y[r] += sum_v(sums[r]);
}
