#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace fettle::models {
namespace {

std::vector<double> read_factors(const JsonReader& r, std::string_view key, int64_t pairs) {
  const JsonReader list = r.at(key);
  if (static_cast<int64_t>(list.array().size()) != pairs)
    list.fail_expected(fmt::format("{} factors (rotary_dim / 2)", pairs));
  std::vector<double> out;
  for (size_t i = 0; i < list.array().size(); ++i) out.push_back(list.at(i).number(1e-6, 1e9));
  return out;
}

RopeType parse_type(const JsonReader& r) {
  const std::string_view key = r.has("rope_type") ? "rope_type" : "type";
  const std::string name = r.string_or(key, "default");
  if (name == "default" || name == "mrope") return RopeType::kDefault;
  if (name == "linear") return RopeType::kLinear;
  if (name == "dynamic") return RopeType::kDynamic;
  if (name == "llama3") return RopeType::kLlama3;
  if (name == "yarn") return RopeType::kYarn;
  if (name == "longrope" || name == "su") return RopeType::kLongRope;
  r.get(key).fail_expected("default, linear, dynamic, llama3, yarn or longrope");
}

// r: rope_parameters (holding its own theta) or rope_scaling.
RopeConfig read_one(const JsonReader& r, double theta, const ModelConfig& c, int64_t original) {
  RopeConfig rope;
  rope.theta = r.number_or("rope_theta", theta, 1e-3, 1e15);
  rope.type = parse_type(r);
  rope.original_max_position_embeddings = r.integer_or(
      "original_max_position_embeddings", original > 0 ? original : c.max_position_embeddings, 1, int64_t{1} << 30);
  rope.attention_factor = r.number_or("attention_factor", 0.0, 0.0, 1e6);
  switch (rope.type) {
    case RopeType::kLinear:
    case RopeType::kDynamic:
      rope.factor = r.at("factor").number(1e-3, 1e6);
      break;
    case RopeType::kLlama3:
      rope.factor = r.at("factor").number(1e-3, 1e6);
      rope.low_freq_factor = r.at("low_freq_factor").number(1e-6, 1e6);
      rope.high_freq_factor = r.at("high_freq_factor").number(1e-6, 1e6);
      if (rope.high_freq_factor <= rope.low_freq_factor)
        r.at("high_freq_factor").fail_expected(fmt::format("more than low_freq_factor {}", rope.low_freq_factor));
      r.at("original_max_position_embeddings");
      break;
    case RopeType::kYarn:
      rope.factor = r.at("factor").number(1e-3, 1e6);
      rope.beta_fast = r.number_or("beta_fast", 32.0, 1e-6, 1e6);
      rope.beta_slow = r.number_or("beta_slow", 1.0, 1e-6, 1e6);
      rope.truncate = r.boolean_or("truncate", true);
      rope.mscale = r.number_or("mscale", 0.0, 0.0, 1e6);
      rope.mscale_all_dim = r.number_or("mscale_all_dim", 0.0, 0.0, 1e6);
      break;
    case RopeType::kLongRope:
      rope.short_factor = read_factors(r, "short_factor", c.rotary_dim / 2);
      rope.long_factor = read_factors(r, "long_factor", c.rotary_dim / 2);
      break;
    case RopeType::kNone:
    case RopeType::kDefault:
      break;
  }
  return rope;
}

double yarn_mscale(double factor, double m) { return factor <= 1.0 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; }

double yarn_attention_factor(const RopeConfig& r) {
  if (r.attention_factor > 0) return r.attention_factor;
  if (r.mscale > 0 && r.mscale_all_dim > 0)
    return yarn_mscale(r.factor, r.mscale) / yarn_mscale(r.factor, r.mscale_all_dim);
  return yarn_mscale(r.factor, 1.0);
}

void apply_llama3(const RopeConfig& r, std::vector<double>& f) {
  const auto original = static_cast<double>(r.original_max_position_embeddings);
  for (double& x : f) {
    const double wavelength = 2.0 * std::numbers::pi / x;
    if (wavelength < original / r.high_freq_factor) continue;
    if (wavelength > original / r.low_freq_factor) {
      x /= r.factor;
      continue;
    }
    const double s = (original / wavelength - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor);
    x *= (1.0 - s) / r.factor + s;
  }
}

void apply_yarn(const RopeConfig& r, int64_t rotary_dim, std::vector<double>& f) {
  const auto dim = static_cast<double>(rotary_dim);
  const auto original = static_cast<double>(r.original_max_position_embeddings);
  const auto boundary = [&](double rotations) {
    return dim * std::log(original / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(r.theta));
  };
  double lo = boundary(r.beta_fast), hi = boundary(r.beta_slow);
  if (r.truncate) {
    lo = std::floor(lo);
    hi = std::ceil(hi);
  }
  lo = std::max(lo, 0.0);
  hi = std::min(hi, dim - 1.0);
  if (lo == hi) hi += 0.001;
  for (size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - lo) / (hi - lo), 0.0, 1.0);
    f[i] = f[i] / r.factor * ramp + f[i] * (1.0 - ramp);
  }
}

}  // namespace

void read_rope(const JsonReader& config, ModelConfig& c) {
  const double theta = config.number_or("rope_theta", c.model_type == "gemma3_text" ? 1e6 : 10000.0, 1e-3, 1e15);
  const int64_t original = config.integer_or("original_max_position_embeddings", 0, 0, int64_t{1} << 30);
  c.rope = RopeConfig{};
  c.rope.theta = theta;
  if (config.has("rope_parameters")) {
    const JsonReader parameters = config.at("rope_parameters");
    if (parameters.has("full_attention")) {
      c.rope = read_one(parameters.at("full_attention"), theta, c, original);
      if (parameters.has("sliding_attention"))
        c.rope_local = read_one(parameters.at("sliding_attention"), theta, c, original);
    } else {
      c.rope = read_one(parameters, theta, c, original);
    }
  } else if (config.has("rope_scaling")) {
    c.rope = read_one(config.at("rope_scaling"), theta, c, original);
  }
}

RopeTable::RopeTable(const RopeConfig& rope, int64_t rotary_dim, int64_t max_position_embeddings, int64_t context)
    : rope_(rope), rotary_dim_(rotary_dim), max_positions_(max_position_embeddings) {
  frequencies_ = base_frequencies(rope.theta);
  switch (rope.type) {
    case RopeType::kNone:
      std::fill(frequencies_.begin(), frequencies_.end(), 0.0);
      break;
    case RopeType::kDefault:
    case RopeType::kDynamic:
      break;
    case RopeType::kLinear:
      for (double& f : frequencies_) f /= rope.factor;
      break;
    case RopeType::kLlama3:
      apply_llama3(rope, frequencies_);
      break;
    case RopeType::kYarn:
      apply_yarn(rope, rotary_dim, frequencies_);
      attention_factor_ = yarn_attention_factor(rope);
      break;
    case RopeType::kLongRope: {
      const auto& factors = context > rope.original_max_position_embeddings ? rope.long_factor : rope.short_factor;
      for (size_t i = 0; i < frequencies_.size() && i < factors.size(); ++i) frequencies_[i] /= factors[i];
      const double original = static_cast<double>(rope.original_max_position_embeddings);
      const double ratio = static_cast<double>(max_position_embeddings) / original;
      attention_factor_ = rope.attention_factor > 0 ? rope.attention_factor
                          : ratio <= 1.0            ? 1.0
                                                    : std::sqrt(1.0 + std::log(ratio) / std::log(original));
      break;
    }
  }
  for (size_t i = 0; i < rope.frequency_divisors.size() && i < frequencies_.size(); ++i)
    frequencies_[i] /= rope.frequency_divisors[i];
}

std::vector<double> RopeTable::base_frequencies(double theta) const {
  std::vector<double> f(static_cast<size_t>(rotary_dim_ / 2));
  for (size_t i = 0; i < f.size(); ++i)
    f[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim_));
  return f;
}

void RopeTable::fill(int64_t position, int64_t length, std::span<float> cos, std::span<float> sin) const {
  std::vector<double> grown;
  if (rope_.type == RopeType::kDynamic && length > max_positions_) {
    const auto dim = static_cast<double>(rotary_dim_);
    const double stretch =
        rope_.factor * static_cast<double>(length) / static_cast<double>(max_positions_) - (rope_.factor - 1.0);
    grown = base_frequencies(rope_.theta * std::pow(stretch, dim / (dim - 2.0)));
  }
  const std::vector<double>& f = grown.empty() ? frequencies_ : grown;
  for (size_t i = 0; i < f.size(); ++i) {
    // Upstream keeps frequencies and angles in F32; the same rounding keeps long contexts comparable.
    const float angle = static_cast<float>(position) * static_cast<float>(f[i]);
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * attention_factor_);
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)) * attention_factor_);
  }
}

}  // namespace fettle::models
