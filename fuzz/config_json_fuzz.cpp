// config.json: an accepted one has dimensions that a model can have, and its rotation table is finite.
#include <cmath>

#include "fuzz_util.h"
#include "models/config.h"
#include "models/rope.h"

namespace {

void check_rope(const fettle::models::RopeConfig& rope, const fettle::models::ModelConfig& c) {
  const fettle::models::RopeTable table(rope, c.rotary_dim, c.max_position_embeddings, c.max_position_embeddings);
  const auto half = static_cast<size_t>(c.rotary_dim / 2);
  std::vector<float> cos(half), sin(half);
  table.fill(1, 2, cos, sin);
  for (size_t i = 0; i < half; ++i) FUZZ_CHECK(std::isfinite(cos[i]) && std::isfinite(sin[i]));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fettle;
  models::ModelConfig c;
  if (!fuzz::accepts(
          [&] { c = models::parse_hf_config(parse_json(fuzz::as_text(data, size), "config.json"), "input"); }))
    return 0;
  for (const int64_t positive : {c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads,
                                 c.head_dim, c.vocab_size, c.max_position_embeddings})
    FUZZ_CHECK(positive > 0);
  FUZZ_CHECK(c.num_attention_heads % c.num_key_value_heads == 0);
  FUZZ_CHECK(c.rotary_dim > 0 && c.rotary_dim % 2 == 0 && c.rotary_dim <= c.head_dim);
  FUZZ_CHECK(c.rms_norm_eps > 0 && std::isfinite(c.rms_norm_eps));
  FUZZ_CHECK(c.sliding_window.empty() || std::ssize(c.sliding_window) == c.num_hidden_layers);
  FUZZ_CHECK(c.uses_local_rope.empty() || std::ssize(c.uses_local_rope) == c.num_hidden_layers);
  FUZZ_CHECK(c.sparse_layer.empty() || std::ssize(c.sparse_layer) == c.num_hidden_layers);
  for (const int64_t id : c.eos_token_ids) FUZZ_CHECK(id >= 0 && id < c.vocab_size);
  fuzz::accepts([&] { check_rope(c.rope, c); });
  return 0;
}
