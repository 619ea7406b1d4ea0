// Repacking of the K-quants: super-blocks of 256 with quantised scales. Block layouts: specs/00 2.6.
#include "tensor/formats/gguf_codec.h"
#include "tensor/formats/swar.h"

namespace fettle::formats {
namespace {

constexpr size_t kSuper = 256;

void copy_f16(const uint8_t* from, uint8_t* to) { store_as(to, load_as<uint16_t>(from)); }

}  // namespace

void unpack_scales_k4(const uint8_t* b, uint8_t* scales, uint8_t* mins) {
  for (size_t j = 0; j < 4; ++j) {
    scales[j] = b[j] & 63;
    mins[j] = b[j + 4] & 63;
    scales[j + 4] = static_cast<uint8_t>((b[j + 8] & 15) | ((b[j] >> 6) << 4));
    mins[j + 4] = static_cast<uint8_t>((b[j + 8] >> 4) | ((b[j + 4] >> 6) << 4));
  }
}

void pack_scales_k4(const uint8_t* scales, const uint8_t* mins, uint8_t* b) {
  for (size_t j = 0; j < 4; ++j) {
    b[j] = static_cast<uint8_t>((scales[j] & 63) | ((scales[j + 4] >> 4) << 6));
    b[j + 4] = static_cast<uint8_t>((mins[j] & 63) | ((mins[j + 4] >> 4) << 6));
    b[j + 8] = static_cast<uint8_t>((scales[j + 4] & 15) | ((mins[j + 4] & 15) << 4));
  }
}

void unpack_scales_k3(const uint8_t* b, int8_t* scales) {
  for (size_t i = 0; i < 16; ++i) {
    const int low = (b[i % 8] >> (4 * (i / 8))) & 15, high = (b[8 + i % 4] >> (2 * (i / 4))) & 3;
    scales[i] = static_cast<int8_t>((low | (high << 4)) - 32);
  }
}

void pack_scales_k3(const int8_t* scales, uint8_t* b) {
  std::memset(b, 0, 12);
  for (size_t i = 0; i < 16; ++i) {
    const int code = (scales[i] + 32) & 63;
    b[i % 8] = static_cast<uint8_t>(b[i % 8] | ((code & 15) << (4 * (i / 8))));
    b[8 + i % 4] = static_cast<uint8_t>(b[8 + i % 4] | ((code >> 4) << (2 * (i / 4))));
  }
}

// scales 16 B (low nibble scale, high nibble min), codes 64 B, d, dmin. Plane j of half h: bits 2j of 32 bytes.
void unpack_q2_k(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 84) {
    for (size_t s = 0; s < 16; ++s) {
      out.scales[16 * i + s] = b[s] & 15;
      out.mins[16 * i + s] = b[s] >> 4;
    }
    copy_f16(b + 80, out.super_scales + 2 * i);
    copy_f16(b + 82, out.super_mins + 2 * i);
    for (size_t plane = 0; plane < 8; ++plane)
      for (size_t l = 0; l < 32; l += 8) {
        const auto v = load_as<uint64_t>(b + 16 + 32 * (plane / 4) + l);
        store_as(out.codes + 128 * i + 16 * plane + l / 2, pair_up((v >> (2 * (plane % 4))) & every_lane(3)));
      }
  }
}
void pack_q2_k(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 84) {
    for (size_t s = 0; s < 16; ++s)
      b[s] = static_cast<uint8_t>((in.scales[16 * i + s] & 15) | ((in.mins[16 * i + s] & 15) << 4));
    copy_f16(in.super_scales + 2 * i, b + 80);
    copy_f16(in.super_mins + 2 * i, b + 82);
    for (size_t half = 0; half < 2; ++half)
      for (size_t l = 0; l < 32; l += 8) {
        uint64_t v = 0;
        for (size_t j = 0; j < 4; ++j) {
          const auto pairs = load_as<uint32_t>(in.codes + 128 * i + 16 * (4 * half + j) + l / 2);
          v |= (unpair(pairs) & every_lane(3)) << (2 * j);
        }
        store_as(b + 16 + 32 * half + l, v);
      }
  }
}

// hmask 32 B (bit `plane`), codes 64 B as Q2_K, scales 12 B, d. Canonical code = 2 bits | high bit << 2, offset 4.
void unpack_q3_k(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 110) {
    int8_t scales[16];
    unpack_scales_k3(b + 96, scales);
    std::memcpy(out.scales + 16 * i, scales, 16);
    copy_f16(b + 108, out.super_scales + 2 * i);
    for (size_t plane = 0; plane < 8; ++plane)
      for (size_t l = 0; l < 32; l += 8) {
        const uint64_t low = (load_as<uint64_t>(b + 32 + 32 * (plane / 4) + l) >> (2 * (plane % 4))) & every_lane(3);
        const uint64_t high = (load_as<uint64_t>(b + l) >> plane) & every_lane(1);
        store_as(out.codes + 128 * i + 16 * plane + l / 2, pair_up(low | (high << 2)));
      }
  }
}
void pack_q3_k(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 110) {
    int8_t scales[16];
    std::memcpy(scales, in.scales + 16 * i, 16);
    pack_scales_k3(scales, b + 96);
    copy_f16(in.super_scales + 2 * i, b + 108);
    for (size_t l = 0; l < 32; l += 8) {
      uint64_t low[2] = {0, 0}, high = 0;
      for (size_t plane = 0; plane < 8; ++plane) {
        const uint64_t v = unpair(load_as<uint32_t>(in.codes + 128 * i + 16 * plane + l / 2));
        low[plane / 4] |= (v & every_lane(3)) << (2 * (plane % 4));
        high |= ((v >> 2) & every_lane(1)) << plane;
      }
      store_as(b + l, high);
      store_as(b + 32 + l, low[0]);
      store_as(b + 64 + l, low[1]);
    }
  }
}

// d, dmin, scales 12 B, codes 128 B: chunks of 64 elements in 32 bytes of split nibbles.
void unpack_q4_k(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 144) {
    copy_f16(b, out.super_scales + 2 * i);
    copy_f16(b + 2, out.super_mins + 2 * i);
    unpack_scales_k4(b + 4, out.scales + 8 * i, out.mins + 8 * i);
    for (size_t c = 0; c < 4; ++c) halves_to_pairs(b + 16 + 32 * c, 32, out.codes + 128 * i + 32 * c);
  }
}
void pack_q4_k(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 144) {
    copy_f16(in.super_scales + 2 * i, b);
    copy_f16(in.super_mins + 2 * i, b + 2);
    pack_scales_k4(in.scales + 8 * i, in.mins + 8 * i, b + 4);
    for (size_t c = 0; c < 4; ++c) pairs_to_halves(in.codes + 128 * i + 32 * c, 32, b + 16 + 32 * c);
  }
}

// d, dmin, scales 12 B, fifth bits 32 B (bits 2c and 2c + 1 belong to chunk c), codes 128 B as Q4_K.
void unpack_q5_k(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 176) {
    copy_f16(b, out.super_scales + 2 * i);
    copy_f16(b + 2, out.super_mins + 2 * i);
    unpack_scales_k4(b + 4, out.scales + 8 * i, out.mins + 8 * i);
    for (size_t c = 0; c < 4; ++c)
      for (size_t l = 0; l < 32; l += 8) {
        const auto v = load_as<uint64_t>(b + 48 + 32 * c + l), h = load_as<uint64_t>(b + 16 + l) >> (2 * c);
        uint8_t* codes = out.codes + kSuper * i + 64 * c + l;
        store_as(codes, (v & kNibbles) | ((h & every_lane(1)) << 4));
        store_as(codes + 32, ((v >> 4) & kNibbles) | (((h >> 1) & every_lane(1)) << 4));
      }
  }
}
void pack_q5_k(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 176) {
    copy_f16(in.super_scales + 2 * i, b);
    copy_f16(in.super_mins + 2 * i, b + 2);
    pack_scales_k4(in.scales + 8 * i, in.mins + 8 * i, b + 4);
    for (size_t l = 0; l < 32; l += 8) {
      uint64_t high = 0;
      for (size_t c = 0; c < 4; ++c) {
        const uint8_t* codes = in.codes + kSuper * i + 64 * c + l;
        const auto first = load_as<uint64_t>(codes), second = load_as<uint64_t>(codes + 32);
        store_as(b + 48 + 32 * c + l, (first & kNibbles) | ((second & kNibbles) << 4));
        high |= ((first >> 4) & every_lane(1)) << (2 * c);
        high |= ((second >> 4) & every_lane(1)) << (2 * c + 1);
      }
      store_as(b + 16 + l, high);
    }
  }
}

// low nibbles 128 B, high pairs 64 B, scales i8 16 B, d. Half h, quarter q (32 elements): low nibble q / 2 of bytes
// 64h + 32(q % 2), high bits 2q of bytes 32h.
void unpack_q6_k(const uint8_t* b, size_t n, const GgufRowOut& out) {
  for (size_t i = 0; i < n; ++i, b += 210) {
    std::memcpy(out.scales + 16 * i, b + 192, 16);
    copy_f16(b + 208, out.super_scales + 2 * i);
    for (size_t part = 0; part < 8; ++part) {
      const size_t half = part / 4, q = part % 4;
      for (size_t l = 0; l < 32; l += 8) {
        const uint64_t low = (load_as<uint64_t>(b + 64 * half + 32 * (q % 2) + l) >> (4 * (q / 2))) & kNibbles;
        const uint64_t high = (load_as<uint64_t>(b + 128 + 32 * half + l) >> (2 * q)) & every_lane(3);
        store_as(out.codes + kSuper * i + 32 * part + l, subtract_bias<32>(low | (high << 4)));
      }
    }
  }
}
void pack_q6_k(const GgufRowIn& in, size_t n, uint8_t* b) {
  for (size_t i = 0; i < n; ++i, b += 210) {
    std::memcpy(b + 192, in.scales + 16 * i, 16);
    copy_f16(in.super_scales + 2 * i, b + 208);
    for (size_t half = 0; half < 2; ++half)
      for (size_t l = 0; l < 32; l += 8) {
        uint64_t low[2] = {0, 0}, high = 0;
        for (size_t q = 0; q < 4; ++q) {
          const uint64_t v = add_bias<32>(load_as<uint64_t>(in.codes + kSuper * i + 128 * half + 32 * q + l));
          low[q % 2] |= (v & kNibbles) << (4 * (q / 2));
          high |= ((v >> 4) & every_lane(3)) << (2 * q);
        }
        store_as(b + 64 * half + l, low[0]);
        store_as(b + 64 * half + 32 + l, low[1]);
        store_as(b + 128 + 32 * half + l, high);
      }
  }
}

}  // namespace fettle::formats
