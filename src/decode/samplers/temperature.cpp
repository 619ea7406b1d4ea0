#include "decode/samplers/temperature.h"

#include <algorithm>
#include <cmath>

namespace fettle::decoding {

namespace {

// H(p) in F32 and in llama.cpp's order of operations. On a peaked row F32 rounds the largest probability to 1 and with
// it the entropy; the temperature then follows that rounding, so a more exact entropy would give other temperatures.
float entropy_f32(Candidates& c) {
  c.sort(c.size());
  const float max = c[0].logit, inverse = static_cast<float>(c.inverse_temperature());
  std::vector<float> p(c.size());
  float sum = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    p[i] = std::exp((c[i].logit - max) * inverse);
    sum += p[i];
  }
  float entropy = 0;
  for (float& x : p) {
    x /= sum;
    if (x > 0) entropy -= x * std::log(x);
  }
  return entropy;
}

}  // namespace

void scale_temperature(Candidates& c, double temperature) {
  if (temperature <= 0)
    c.keep(1);
  else
    c.divide_by(temperature);
}

void scale_dynamic_temperature(Candidates& c, double temperature, double range, double exponent) {
  if (range <= 0) {
    scale_temperature(c, temperature);
    return;
  }
  if (c.size() < 2) return;
  const float low = std::max(0.0f, static_cast<float>(temperature - range)),
              high = static_cast<float>(temperature + range);
  const float share = std::max(0.0f, entropy_f32(c) / -std::log(1.0f / static_cast<float>(c.size())));
  scale_temperature(c, low + (high - low) * std::pow(share, static_cast<float>(exponent)));
}

}  // namespace fettle::decoding
