#include "tensor/sinq/quantise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tensor/formats/codecs.h"

namespace fettle::sinq {
namespace {

// NF3 of huawei-csl/SINQ (sinq/dual_shift.py).
constexpr std::array<float, 8> kNF3Table = {-1.0f,
                                            -0.5350227355957031f,
                                            -0.2469314038753510f,
                                            0.0f,
                                            0.1833375245332718f,
                                            0.3819939494132996f,
                                            0.6229856610298157f,
                                            1.0f};
constexpr float kRangeFloor = 1e-4f;

uint8_t clamp_code(float q, float top) { return static_cast<uint8_t>(std::clamp(std::nearbyint(q), 0.0f, top)); }

struct Range {
  float low, high;
};
Range range_of(std::span<const float> x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  return {*low, *high};
}

void round_asymmetric(std::span<const float> x, float top, uint8_t* codes, float* scale, float* zero) {
  const Range r = range_of(x);
  *scale = std::max(r.high - r.low, kRangeFloor) / top;
  *zero = -std::nearbyint(r.low / *scale);
  for (size_t i = 0; i < x.size(); ++i) codes[i] = clamp_code(x[i] / *scale + *zero, top);
}

void round_no_zero(std::span<const float> x, int bits, uint8_t* codes, float* scale, float* zero) {
  const int half = ((1 << bits) - 1) / 2;
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::fabs(v));
  *scale = std::max(largest, 1e-5f) / static_cast<float>(half - 1);
  *zero = static_cast<float>(half);
  for (size_t i = 0; i < x.size(); ++i) {
    const float q =
        std::clamp(std::nearbyint(x[i] / *scale), static_cast<float>(-half - 1), static_cast<float>(half - 1));
    codes[i] = static_cast<uint8_t>(std::max(0.0f, q + *zero));
  }
}

void round_table(std::span<const float> x, std::span<const float> table, uint8_t* codes, float* scale, float* zero) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v);
  const auto mean = static_cast<float>(sum / static_cast<double>(x.size()));
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::fabs(v - mean));
  *scale = std::max(largest, kRangeFloor);
  *zero = -mean / *scale;
  for (size_t i = 0; i < x.size(); ++i) {
    const float v = x[i] / *scale + *zero;
    size_t best = 0;
    for (size_t t = 1; t < table.size(); ++t)
      if (std::fabs(v - table[t]) < std::fabs(v - table[best])) best = t;  // the first of equals
    codes[i] = static_cast<uint8_t>(best);
  }
}

// Half-quadratic quantisation of a whole tile: the round with the lowest mean absolute error wins.
void round_hqq(MatView<const float> tile, float top, MatView<uint8_t> codes, float* scale, float* zero) {
  constexpr int kRounds = 20;
  constexpr float kPower = 0.7f, kBeta = 10.0f;
  std::vector<float> inverse(tile.rows), current(tile.rows);
  for (size_t r = 0; r < tile.rows; ++r) {
    const Range x = range_of(tile.row_span(r));
    inverse[r] = x.high - x.low <= kRangeFloor ? 1.0f : std::min(top / (x.high - x.low), 2e4f);
    scale[r] = 1.0f / inverse[r];
    current[r] = zero[r] = -x.low * inverse[r];
  }
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    double error = 0;
    const std::vector<float> used = current;
    for (size_t r = 0; r < tile.rows; ++r) {
      double next = 0;
      for (size_t c = 0; c < tile.cols; ++c) {
        const float w = tile.row(r)[c];
        const auto q = static_cast<float>(clamp_code(w * inverse[r] + current[r], top));
        const float x = w - (q - current[r]) / inverse[r];
        error += static_cast<double>(std::fabs(x));
        const float size = std::clamp(std::fabs(x), 1e-5f, 1e5f);
        const float e = std::copysign(std::max(std::fabs(x) - std::pow(size, kPower - 1) / kBeta, 0.0f), x);
        next += static_cast<double>(q - (w - e) * inverse[r]);
      }
      current[r] = static_cast<float>(next / static_cast<double>(tile.cols));
    }
    if (error >= best) continue;
    best = error;
    std::copy(used.begin(), used.end(), zero);
  }
  for (size_t r = 0; r < tile.rows; ++r)
    for (size_t c = 0; c < tile.cols; ++c) codes.row(r)[c] = clamp_code(tile.row(r)[c] * inverse[r] + zero[r], top);
}

}  // namespace

const float* table_of(Rounding rounding) {
  if (rounding == Rounding::kNf4) return formats::kNF4Table.data();
  if (rounding == Rounding::kNf3) return kNF3Table.data();
  return nullptr;
}

void round_tile(MatView<const float> tile, Rounding rounding, int bits, MatView<uint8_t> codes, float* scale,
                float* zero) {
  const auto top = static_cast<float>((1 << bits) - 1);
  if (rounding == Rounding::kHqq) return round_hqq(tile, top, codes, scale, zero);
  for (size_t r = 0; r < tile.rows; ++r) {
    const std::span<const float> x = tile.row_span(r);
    switch (rounding) {
      case Rounding::kAsymmetric:
        round_asymmetric(x, top, codes.row(r), scale + r, zero + r);
        break;
      case Rounding::kNoZero:
        round_no_zero(x, bits, codes.row(r), scale + r, zero + r);
        break;
      case Rounding::kNf4:
        round_table(x, formats::kNF4Table, codes.row(r), scale + r, zero + r);
        break;
      default:
        round_table(x, kNF3Table, codes.row(r), scale + r, zero + r);
    }
  }
}

namespace {

// One tile at (row, col): balance, round, and put the row factor into the scale.
void quantise_tile(MatView<const float> w, const Options& o, size_t row, size_t col, size_t height, size_t width,
                   Quantised* out) {
  const MatView<const float> tile = w.slice_rows(row, row + height).slice_cols(col, col + width);
  SinkhornFactors f;
  if (out->balanced) {
    f = sinkhorn(tile, o.sinkhorn);
  } else {
    f = {std::vector<float>(width, 1.0f), std::vector<float>(height, 1.0f), 1.0};
  }
  std::vector<float> balanced(height * width), scale(height), zero(height);
  for (size_t r = 0; r < height; ++r)
    for (size_t c = 0; c < width; ++c) balanced[r * width + c] = tile.row(r)[c] / f.col[c] / f.row[r];
  const MatView<uint8_t> codes(out->codes.data() + row * w.cols + col, height, width, w.cols);
  round_tile({balanced.data(), height, width}, o.rounding, out->bits, codes, scale.data(), zero.data());
  const auto tiles = static_cast<size_t>(out->tiles()), t = col / static_cast<size_t>(out->tile);
  for (size_t r = 0; r < height; ++r) {
    out->scale[(row + r) * tiles + t] = scale[r] * f.row[r];
    out->zero[(row + r) * tiles + t] = zero[r];
  }
  const size_t panel = row / static_cast<size_t>(out->panel);
  std::copy(f.col.begin(), f.col.end(), out->col.begin() + static_cast<ptrdiff_t>(panel * w.cols + col));
}

}  // namespace

Quantised quantise(MatView<const float> w, const Options& o, ThreadPool* pool) {
  FETTLE_CHECK(o.tile > 0 && w.rows > 0 && w.cols > 0);
  const int bits = o.rounding == Rounding::kNf4 ? 4 : o.rounding == Rounding::kNf3 ? 3 : o.bits;
  if (bits < 2 || bits > 8 || (o.rounding == Rounding::kNoZero && bits < 3))
    fail(ErrorCode::kUsage, "sinq: {} bits: expected 2 to 8, and at least 3 without zero points", bits);
  Quantised out;
  out.rows = static_cast<int64_t>(w.rows);
  out.cols = static_cast<int64_t>(w.cols);
  out.tile = std::min(o.tile, out.cols);
  out.panel = o.square_tiles ? std::min(o.tile, out.rows) : out.rows;
  out.bits = bits;
  out.rounding = o.rounding;
  out.balanced = o.balance && !(o.kurtosis_gate > 0 && kurtosis(w) > o.kurtosis_gate);
  const auto panel = static_cast<size_t>(out.panel), width = static_cast<size_t>(out.tile);
  const size_t panels = (w.rows + panel - 1) / panel, tiles = static_cast<size_t>(out.tiles());
  out.codes.resize(w.rows * w.cols);
  out.scale.resize(w.rows * tiles);
  out.zero.resize(w.rows * tiles);
  out.col.resize(panels * w.cols);
  const auto one = [&](size_t i) {
    const size_t row = i / tiles * panel, col = i % tiles * width;
    quantise_tile(w, o, row, col, std::min(panel, w.rows - row), std::min(width, w.cols - col), &out);
  };
  if (pool != nullptr) {
    pool->parallel_for(panels * tiles, one);
  } else {
    for (size_t i = 0; i < panels * tiles; ++i) one(i);
  }
  return out;
}

std::vector<float> dequantise(const Quantised& q) {
  const auto cols = static_cast<size_t>(q.cols), tiles = static_cast<size_t>(q.tiles());
  const float* table = table_of(q.rounding);
  std::vector<float> out(q.codes.size());
  for (size_t o = 0; o < static_cast<size_t>(q.rows); ++o)
    for (size_t k = 0; k < cols; ++k) {
      const size_t t = o * tiles + k / static_cast<size_t>(q.tile);
      const uint8_t code = q.codes[o * cols + k];
      const float value = table != nullptr ? table[code] : static_cast<float>(code);
      out[o * cols + k] = (value - q.zero[t]) * q.scale[t] * q.col[o / static_cast<size_t>(q.panel) * cols + k];
    }
  return out;
}

Aux quantise_aux(std::span<const float> v, size_t n) {
  FETTLE_CHECK(n > 0 && v.size() % n == 0);
  const size_t groups = v.size() / n;
  Aux a{n, std::vector<uint8_t>(v.size()), std::vector<float>(groups), std::vector<float>(groups)};
  for (size_t g = 0; g < groups; ++g) {
    float low = v[g], high = v[g];
    for (size_t r = 1; r < n; ++r) {
      low = std::min(low, v[r * groups + g]);
      high = std::max(high, v[r * groups + g]);
    }
    a.base[g] = low;
    a.step[g] = (high - low) / 255.0f;
    for (size_t r = 0; r < n && a.step[g] > 0; ++r)
      a.x[r * groups + g] = clamp_code((v[r * groups + g] - low) / a.step[g], 255.0f);
  }
  return a;
}

std::vector<float> dequantise_aux(const Aux& a) {
  const size_t groups = a.step.size();
  std::vector<float> out(a.x.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(a.x[i]) * a.step[i % groups] + a.base[i % groups];
  return out;
}

void apply_aux(Quantised& q) {
  if (q.scale.size() % 32 == 0) q.scale = dequantise_aux(quantise_aux(q.scale, 32));
  q.zero = dequantise_aux(quantise_aux(q.zero, q.zero.size()));
}

}  // namespace fettle::sinq
