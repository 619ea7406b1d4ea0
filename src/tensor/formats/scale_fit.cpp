#include "tensor/formats/scale_fit.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "tensor/formats/scale_store.h"

namespace fettle::formats {
namespace {

constexpr float kNegligible = 1e-15f;
constexpr size_t kMaxRun = 32;

int rounded_code(float x, int low, int high) { return std::clamp(round_even(x), low, high); }

float signed_max(std::span<const float> x) {
  float best = 0, magnitude = 0;
  for (const float v : x)
    if (std::fabs(v) > magnitude) {
      magnitude = std::fabs(v);
      best = v;
    }
  return best;
}

// Weighted error of x ~ scale * code + min.
float affine_error(std::span<const float> x, std::span<const float> w, const uint8_t* codes, float scale, float min,
                   FitError kind) {
  float sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float diff = scale * static_cast<float>(codes[i]) + min - x[i];
    sum += w[i] * (kind == FitError::kAbsolute ? std::fabs(diff) : diff * diff);
  }
  return sum;
}

// Least squares for fixed codes: false when the codes do not determine a line.
struct Line {
  float scale, min;
};
bool solve_line(std::span<const float> x, std::span<const float> w, const uint8_t* codes, float sum_w, float sum_x,
                Line* line) {
  float sum_l = 0, sum_ll = 0, sum_xl = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto l = static_cast<float>(codes[i]);
    sum_l += w[i] * l;
    sum_ll += w[i] * l * l;
    sum_xl += w[i] * l * x[i];
  }
  const float determinant = sum_w * sum_ll - sum_l * sum_l;
  if (!(determinant > 0)) return false;
  line->scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
  line->min = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
  if (line->min > 0) {
    line->min = 0;
    line->scale = sum_xl / sum_ll;
  }
  return true;
}

}  // namespace

AffineFit fit_affine(std::span<const float> x, std::span<const float> w, const AffineSearch& search, uint8_t* codes) {
  FETTLE_DCHECK(x.size() <= kMaxRun && w.size() == x.size());
  float min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
  for (size_t i = 1; i < x.size(); ++i) {
    min = std::min(min, x[i]);
    max = std::max(max, x[i]);
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  min = std::min(min, 0.0f);
  if (max == min) {
    std::fill_n(codes, x.size(), uint8_t{0});
    return {.scale = 0, .min = -min};
  }
  const auto top = static_cast<float>(search.max_code);
  const auto codes_at = [&](float inverse_scale, float low, uint8_t* out) {
    for (size_t i = 0; i < x.size(); ++i)
      out[i] = static_cast<uint8_t>(rounded_code(inverse_scale * (x[i] - low), 0, search.max_code));
  };
  const float start = top / (max - min);
  Line best{1 / start, min};
  codes_at(start, min, codes);
  float best_error = affine_error(x, w, codes, best.scale, best.min, search.error);
  std::array<uint8_t, kMaxRun> trial;
  for (int i = 0; i <= search.steps; ++i) {
    // Trials start from the best minimum so far, not from the first one.
    const float inverse_scale = (search.first + search.step * static_cast<float>(i) + top) / (max - best.min);
    codes_at(inverse_scale, best.min, trial.data());
    Line line;
    if (!solve_line(x, w, trial.data(), sum_w, sum_x, &line)) continue;
    const float error = affine_error(x, w, trial.data(), line.scale, line.min, search.error);
    if (error < best_error) {
      std::copy_n(trial.begin(), x.size(), codes);
      best_error = error;
      best = line;
    }
  }
  return {.scale = best.scale, .min = -best.min};
}

float fit_symmetric_search(std::span<const float> x, int levels, uint8_t* codes) {
  const float max = signed_max(x);
  if (std::fabs(max) < kNegligible) {
    std::fill_n(codes, x.size(), uint8_t{0});
    return 0;
  }
  const auto n = static_cast<float>(levels);
  // Correlation sums of the codes at one inverse scale.
  struct Sums {
    float xl = 0, ll = 0;
  };
  const auto sums_at = [&](float inverse_scale) {
    Sums s;
    for (const float v : x) {
      const auto l = static_cast<float>(rounded_code(inverse_scale * v, -levels, levels - 1));
      const float w = v * v;
      s.xl += w * v * l;
      s.ll += w * l * l;
    }
    return s;
  };
  float chosen = -n / max;
  const Sums first = sums_at(chosen);
  float scale = first.ll != 0 ? first.xl / first.ll : 0.0f, best = scale * first.xl;
  for (int i = -9; i <= 9; ++i) {
    if (i == 0) continue;
    const float inverse_scale = -(n + 0.1f * static_cast<float>(i)) / max;
    const Sums s = sums_at(inverse_scale);
    if (s.ll > 0 && s.xl * s.xl > best * s.ll) {
      scale = s.xl / s.ll;
      best = scale * s.xl;
      chosen = inverse_scale;
    }
  }
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = static_cast<uint8_t>(rounded_code(chosen * x[i], -levels, levels - 1) + levels);
  return scale;
}

float fit_symmetric_descent(std::span<const float> x, int levels, uint8_t* codes) {
  FETTLE_DCHECK(x.size() <= kMaxRun);
  const float max = signed_max(x);
  if (std::fabs(max) < kNegligible) {
    std::fill_n(codes, x.size(), uint8_t{0});
    return 0;
  }
  std::array<int, kMaxRun> l;
  const float inverse_scale = -static_cast<float>(levels) / max;
  float sum_xl = 0, sum_ll = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    l[i] = rounded_code(inverse_scale * x[i], -levels, levels - 1);
    const float w = x[i] * x[i], code = static_cast<float>(l[i]);
    sum_xl += w * x[i] * code;
    sum_ll += w * code * code;
  }
  bool changed = true;
  for (int round = 0; round < 5 && changed; ++round) {
    changed = false;
    for (size_t i = 0; i < x.size(); ++i) {
      // Sums without element i say which code it should have under the best scale of the others.
      const float w = x[i] * x[i], old = static_cast<float>(l[i]);
      float xl = sum_xl - w * x[i] * old;
      if (!(xl > 0)) continue;
      float ll = sum_ll - w * old * old;
      const int next = rounded_code(x[i] * ll / xl, -levels, levels - 1);
      if (next == l[i]) continue;
      const auto code = static_cast<float>(next);
      xl += w * x[i] * code;
      ll += w * code * code;
      if (ll > 0 && xl * xl * sum_ll > sum_xl * sum_xl * ll) {
        l[i] = next;
        sum_xl = xl;
        sum_ll = ll;
        changed = true;
      }
    }
  }
  for (size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<uint8_t>(l[i] + levels);
  return sum_ll > 0 ? sum_xl / sum_ll : 0.0f;
}

}  // namespace fettle::formats
