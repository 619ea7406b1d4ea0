#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/json.h"
#include "models/config.h"

namespace fettle::models {

// Fills c.rope (and c.rope_local when the file has one per layer type) from rope_parameters, or rope_theta and
// rope_scaling.
void read_rope(const JsonReader& config, ModelConfig& c);

// Rotation frequencies of one configuration and the factor on cos and sin (specs/30 section 2.3).
class RopeTable {
 public:
  // context: the longest sequence that will run; longrope picks long_factor when it exceeds the original length.
  RopeTable(const RopeConfig& rope, int64_t rotary_dim, int64_t max_position_embeddings, int64_t context);

  // cos, sin: [rotary_dim / 2] for one position; length = tokens of the sequence so far (dynamic scaling looks at it).
  void fill(int64_t position, int64_t length, std::span<float> cos, std::span<float> sin) const;

  const std::vector<double>& frequencies() const { return frequencies_; }
  double attention_factor() const { return attention_factor_; }

 private:
  std::vector<double> base_frequencies(double theta) const;

  RopeConfig rope_;
  int64_t rotary_dim_, max_positions_;
  std::vector<double> frequencies_;
  double attention_factor_ = 1.0;
};

}  // namespace fettle::models
