#include "compress/solve/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "compress/solve/code_space.h"

namespace fettle::compress {

LayerScores layer_scores(MatView<const float> w, MatView<const float> x) {
  if (w.cols != x.cols || w.rows == 0 || x.rows == 0)
    fail(ErrorCode::kInput, "sensitivity: weights {} x {} and inputs {} x {}", w.rows, w.cols, x.rows, x.cols);
  LayerScores s;
  double e8 = 0, total = 0;
  for (size_t r = 0; r < w.rows; ++r) {
    double mn = 0, mx = 0;
    for (size_t c = 0; c < w.cols; ++c) {
      mn = std::min(mn, static_cast<double>(w.row(r)[c]));
      mx = std::max(mx, static_cast<double>(w.row(r)[c]));
    }
    const double scale = mx > mn ? (mx - mn) / 255 : 1.0;
    const double zero = std::clamp(std::nearbyint(-mn / scale), 0.0, 255.0);
    double row = 0;
    for (size_t c = 0; c < w.cols; ++c) {
      const double v = static_cast<double>(w.row(r)[c]);
      const double q = (std::clamp(std::nearbyint(v / scale + zero), 0.0, 255.0) - zero) * scale;
      row += (q - v) * (q - v);
    }
    e8 = std::max(e8, row / static_cast<double>(w.cols));
    total += row;
  }
  s.rounding_norm = std::sqrt(total);
  const auto n = static_cast<double>(x.rows), k = static_cast<double>(x.cols);
  double variances = 0, max_variance = 0, magnitudes = 0;
  for (size_t c = 0; c < x.cols; ++c) {
    double sum = 0, square = 0, top = 0;
    for (size_t t = 0; t < x.rows; ++t) {
      const double v = static_cast<double>(x.row(t)[c]);
      sum += v;
      square += v * v;
      top = std::max(top, std::fabs(v));
    }
    double variance = 0;
    for (size_t t = 0; t < x.rows; ++t) variance += std::pow(static_cast<double>(x.row(t)[c]) - sum / n, 2) / n;
    variances += variance;
    max_variance = std::max(max_variance, variance);
    magnitudes += top;
    s.input_energy += square / n;
  }
  const double weight = 1.0 / (e8 + static_cast<double>(std::numeric_limits<float>::epsilon()));
  s.weight_quantisation = weight;
  s.mean_variance = weight * variances / k;
  s.max_variance = weight * max_variance;
  s.mean_magnitude = weight * magnitudes / k;
  return s;
}

namespace {

// Layers that move together, with summed bits and errors per choice.
struct Unit {
  std::vector<size_t> members;
  std::vector<BitChoice> choices;
};

std::vector<Unit> units_of(std::span<const BitLayer> layers) {
  std::vector<Unit> units;
  std::map<int64_t, size_t> fused;
  for (size_t i = 0; i < layers.size(); ++i) {
    const BitLayer& l = layers[i];
    if (l.choices.empty() || l.weights <= 0)
      fail(ErrorCode::kInput, "bit allocation: layer '{}': expected weights and at least one choice", l.name);
    for (const BitChoice& c : l.choices)
      if (!std::isfinite(c.error) || !std::isfinite(c.bits) || c.bits <= 0)
        fail(ErrorCode::kInput, "bit allocation: layer '{}': error {} at {} bits", l.name, c.error, c.bits);
    const auto found = l.fused >= 0 ? fused.find(l.fused) : fused.end();
    if (found == fused.end()) {
      if (l.fused >= 0) fused[l.fused] = units.size();
      units.push_back({{i}, l.choices});
      continue;
    }
    Unit& u = units[found->second];
    if (u.choices.size() != l.choices.size())
      fail(ErrorCode::kInput, "bit allocation: layer '{}': {} choices, but the layers fused with it have {}", l.name,
           l.choices.size(), u.choices.size());
    u.members.push_back(i);
    for (size_t c = 0; c < l.choices.size(); ++c) {
      u.choices[c].bits += l.choices[c].bits;
      u.choices[c].error += l.choices[c].error;
    }
  }
  return units;
}

// Least error + price * bits; ties: fewer bits.
size_t best_at(const Unit& u, double price) {
  size_t best = 0;
  for (size_t c = 1; c < u.choices.size(); ++c) {
    const double a = u.choices[c].error + price * u.choices[c].bits;
    const double b = u.choices[best].error + price * u.choices[best].bits;
    if (a < b || (a == b && u.choices[c].bits < u.choices[best].bits)) best = c;
  }
  return best;
}

size_t smallest(const Unit& u) {
  size_t best = 0;
  for (size_t c = 1; c < u.choices.size(); ++c)
    if (u.choices[c].bits < u.choices[best].bits) best = c;
  return best;
}

double bits_of(std::span<const Unit> units, std::span<const size_t> choice) {
  double bits = 0;
  for (size_t i = 0; i < units.size(); ++i) bits += units[i].choices[choice[i]].bits;
  return bits;
}

std::vector<size_t> choose(std::span<const Unit> units, double price) {
  std::vector<size_t> out;
  for (const Unit& u : units) out.push_back(best_at(u, price));
  return out;
}

// Single moves that still fit, best gain per bit first.
void spend_rest(std::span<const Unit> units, double budget, std::vector<size_t>* choice) {
  for (;;) {
    const double used = bits_of(units, *choice);
    double best_rate = 0;
    size_t unit = units.size(), to = 0;
    for (size_t i = 0; i < units.size(); ++i)
      for (size_t c = 0; c < units[i].choices.size(); ++c) {
        const BitChoice &from = units[i].choices[(*choice)[i]], &next = units[i].choices[c];
        const double gain = from.error - next.error, cost = next.bits - from.bits;
        if (!(gain > 0) || used + cost > budget) continue;
        const double rate = cost > 0 ? gain / cost : std::numeric_limits<double>::infinity();
        if (rate > best_rate) {
          best_rate = rate;
          unit = i;
          to = c;
        }
      }
    if (unit == units.size()) return;
    (*choice)[unit] = to;
  }
}

}  // namespace

BitAllocation allocate_bits(std::span<const BitLayer> layers, double target_bpw) {
  const std::vector<Unit> units = units_of(layers);
  double weights = 0;
  for (const BitLayer& l : layers) weights += static_cast<double>(l.weights);
  const double budget = target_bpw * weights * (1 + 1e-12);
  std::vector<size_t> choice;
  for (const Unit& u : units) choice.push_back(smallest(u));
  if (!(bits_of(units, choice) <= budget))
    fail(ErrorCode::kUsage, "target of {} bits per weight: the smallest choices need {:.4f}", target_bpw,
         bits_of(units, choice) / weights);
  double low = 0, high = 1e-30;
  if (const auto free = choose(units, 0); bits_of(units, free) <= budget) {
    choice = free;
    high = 0;
  } else {
    while (bits_of(units, choose(units, high)) > budget && high < 1e300) high *= 16;
    for (int step = 0; step < 200 && high > low * (1 + 1e-14); ++step) {
      const double middle = low > 0 ? std::sqrt(low * high) : high / 16;
      (bits_of(units, choose(units, middle)) > budget ? low : high) = middle;
      if (high < 1e-300) break;
    }
    if (const auto hull = choose(units, high); bits_of(units, hull) <= budget) choice = hull;
  }
  spend_rest(units, budget, &choice);
  BitAllocation out;
  out.choice.resize(layers.size());
  out.price = high;
  for (size_t i = 0; i < units.size(); ++i) {
    for (const size_t m : units[i].members) out.choice[m] = choice[i];
    out.error += units[i].choices[choice[i]].error;
  }
  out.bits_per_weight = weights > 0 ? bits_of(units, choice) / weights : 0.0;
  return out;
}

}  // namespace fettle::compress
