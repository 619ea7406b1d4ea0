// AVX-512 VBMI2 decoding of FX3 tiles; included inside a namespace by its native file and by the emulated test.

// 64 weights without a branch: planes are mask registers, escapes expand into their places.
inline const uint8_t* fx3_decode(const uint8_t* tile, size_t count, uint8_t base, const uint8_t* escapes,
                                 uint16_t* out) {
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512i first = _mm512_set1_epi8(static_cast<char>(base));
  for (size_t i = 0; i < count; ++i, tile += formats::kFx3TileBytes, out += formats::kFx3Tile) {
    uint64_t planes[3];
    std::memcpy(planes, tile, sizeof planes);
    __m512i e = _mm512_mask_add_epi8(first, planes[0], first, _mm512_set1_epi8(1));
    e = _mm512_mask_add_epi8(e, planes[1], e, _mm512_set1_epi8(2));
    e = _mm512_mask_add_epi8(e, planes[2], e, _mm512_set1_epi8(4));
    const uint64_t escaped = planes[0] & planes[1] & planes[2];
    e = _mm512_mask_expand_epi8(e, escaped, _mm512_loadu_si512(escapes));
    escapes += __builtin_popcountll(escaped);
    const __m512i sm = _mm512_loadu_si512(tile + sizeof planes);
    const __m512i high =
        _mm512_or_si512(_mm512_and_si512(sign, sm), _mm512_andnot_si512(sign, _mm512_srli_epi16(e, 1)));
    const __m512i low = _mm512_or_si512(_mm512_and_si512(sign, _mm512_slli_epi16(e, 7)), _mm512_andnot_si512(sign, sm));
    _mm512_storeu_si512(out, _mm512_unpacklo_epi8(low, high));
    _mm512_storeu_si512(out + 32, _mm512_unpackhi_epi8(low, high));
  }
  return escapes;
}
