// Repacking of the GGUF types with one scale per block of 32 (16, 64, 128). Block layouts: specs/00 2.6.
#include "tensor/formats/gguf_codec.h"
#include "tensor/formats/swar.h"

namespace fettle::formats {
namespace {

constexpr size_t kGroup = 32;

void copy_f16(const uint8_t* from, uint8_t* to) { store_as(to, load_as<uint16_t>(from)); }

// 16 bytes of split nibbles and 32 fifth bits <-> 32 codes of 5 bits, one per byte.
template <typename Finish>
void unpack_five_bits(const uint8_t* high, const uint8_t* nibbles, uint8_t* codes, const Finish& finish) {
  for (size_t j = 0; j < 16; j += 8) {
    const auto v = load_as<uint64_t>(nibbles + j);
    store_as(codes + j, finish((v & kNibbles) | (spread_bits(high[j / 8]) << 4)));
    store_as(codes + 16 + j, finish(((v >> 4) & kNibbles) | (spread_bits(high[2 + j / 8]) << 4)));
  }
}

template <typename Start>
void pack_five_bits(const uint8_t* codes, uint8_t* high, uint8_t* nibbles, const Start& start) {
  for (size_t j = 0; j < 16; j += 8) {
    const uint64_t low = start(load_as<uint64_t>(codes + j)), up = start(load_as<uint64_t>(codes + 16 + j));
    store_as(nibbles + j, (low & kNibbles) | ((up & kNibbles) << 4));
    high[j / 8] = gather_bits(low >> 4);
    high[2 + j / 8] = gather_bits(up >> 4);
  }
}

constexpr auto same = [](uint64_t v) { return v; };

}  // namespace

void unpack_q8_0(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 34) {
    copy_f16(b, out.scales + 2 * i);
    std::memcpy(out.codes + kGroup * i, b + 2, kGroup);
  }
}
void pack_q8_0(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 34) {
    copy_f16(in.scales + 2 * i, b);
    std::memcpy(b + 2, in.codes + kGroup * i, kGroup);
  }
}

void unpack_nibbles_f16(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 18) {
    copy_f16(b, out.scales + 2 * i);
    halves_to_pairs(b + 2, 16, out.codes + 16 * i);
  }
}
void pack_nibbles_f16(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 18) {
    copy_f16(in.scales + 2 * i, b);
    pairs_to_halves(in.codes + 16 * i, 16, b + 2);
  }
}

void unpack_q4_1(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 20) {
    copy_f16(b, out.scales + 2 * i);
    copy_f16(b + 2, out.mins + 2 * i);
    halves_to_pairs(b + 4, 16, out.codes + 16 * i);
  }
}
void pack_q4_1(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 20) {
    copy_f16(in.scales + 2 * i, b);
    copy_f16(in.mins + 2 * i, b + 2);
    pairs_to_halves(in.codes + 16 * i, 16, b + 4);
  }
}

void unpack_q5_0(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 22) {
    copy_f16(b, out.scales + 2 * i);
    unpack_five_bits(b + 2, b + 6, out.codes + kGroup * i, subtract_bias<16>);
  }
}
void pack_q5_0(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 22) {
    copy_f16(in.scales + 2 * i, b);
    pack_five_bits(in.codes + kGroup * i, b + 2, b + 6, add_bias<16>);
  }
}

void unpack_q5_1(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 24) {
    copy_f16(b, out.scales + 2 * i);
    copy_f16(b + 2, out.mins + 2 * i);
    unpack_five_bits(b + 4, b + 8, out.codes + kGroup * i, same);
  }
}
void pack_q5_1(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 24) {
    copy_f16(in.scales + 2 * i, b);
    copy_f16(in.mins + 2 * i, b + 2);
    pack_five_bits(in.codes + kGroup * i, b + 4, b + 8, same);
  }
}

void unpack_mxfp4(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 17) {
    out.scales[i] = b[0];
    halves_to_pairs(b + 1, 16, out.codes + 16 * i);
  }
}
void pack_mxfp4(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 17) {
    b[0] = in.scales[i];
    pairs_to_halves(in.codes + 16 * i, 16, b + 1);
  }
}

void unpack_nvfp4(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 36)
    for (size_t g = 0; g < 4; ++g) {
      const auto scale = static_cast<uint8_t>(b[g] & 0x7F);  // unsigned; 0x7F reads as 0
      out.scales[4 * i + g] = scale == 0x7F ? uint8_t{0} : scale;
      halves_to_pairs(b + 4 + 8 * g, 8, out.codes + 32 * i + 8 * g);
    }
}
void pack_nvfp4(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 36)
    for (size_t g = 0; g < 4; ++g) {
      b[g] = in.scales[4 * i + g];
      pairs_to_halves(in.codes + 32 * i + 8 * g, 8, b + 4 + 8 * g);
    }
}

// Canonical code 2 * bit with offset 1: -1 or 1.
void unpack_q1_0(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 18) {
    copy_f16(b, out.scales + 2 * i);
    for (size_t j = 0; j < 16; ++j) store_as(out.codes + 64 * i + 4 * j, pair_up(spread_bits(b[2 + j]) << 1));
  }
}
void pack_q1_0(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 18) {
    copy_f16(in.scales + 2 * i, b);
    for (size_t j = 0; j < 16; ++j) b[2 + j] = gather_bits(unpair(load_as<uint32_t>(in.codes + 64 * i + 4 * j)) >> 1);
  }
}

void unpack_q2_0(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 18) {
    copy_f16(b, out.scales + 2 * i);
    for (size_t j = 0; j < 16; ++j) {
      const uint32_t v = b[2 + j];
      out.codes[32 * i + 2 * j] = static_cast<uint8_t>((v & 3) | ((v & 12) << 2));
      out.codes[32 * i + 2 * j + 1] = static_cast<uint8_t>(((v >> 4) & 3) | ((v >> 2) & 0x30));
    }
  }
}
void pack_q2_0(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 18) {
    copy_f16(in.scales + 2 * i, b);
    for (size_t j = 0; j < 16; ++j) {
      const uint32_t low = in.codes[32 * i + 2 * j], high = in.codes[32 * i + 2 * j + 1];
      b[2 + j] = static_cast<uint8_t>((low & 3) | ((low >> 2) & 12) | ((high & 3) << 4) | ((high & 0x30) << 2));
    }
  }
}

}  // namespace fettle::formats
