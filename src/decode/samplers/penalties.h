#pragma once

#include <cstdint>
#include <span>

namespace fettle::decoding {

struct Penalties {
  float repetition = 1;  // CTRL's rule with Hugging Face's sign fix: l > 0 ? l / r : l * r, once per distinct token
  float presence = 0;    // subtracted once per distinct token
  float frequency = 0;   // subtracted per occurrence
};

// Applies the penalties to the tokens of a window. `repeated` feeds the repetition rule, `counted` the additive ones:
// llama.cpp uses one window for both, OpenAI counts generated tokens only. Ids outside the row are ignored.
void apply_penalties(std::span<float> row, const Penalties& p, std::span<const int32_t> repeated,
                     std::span<const int32_t> counted);

// The last n tokens of `history`; n < 0 gives all.
std::span<const int32_t> last_tokens(std::span<const int32_t> history, int64_t n);

}  // namespace fettle::decoding
