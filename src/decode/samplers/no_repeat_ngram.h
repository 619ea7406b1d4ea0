#pragma once

#include <cstdint>
#include <span>

namespace fettle::decoding {

// Sets to -inf every token that would complete an n-gram already present in `history` (Hugging Face
// no_repeat_ngram_size). n <= 0 does nothing; n = 1 bans every token seen.
void ban_repeated_ngrams(std::span<float> row, std::span<const int32_t> history, int64_t n);

}  // namespace fettle::decoding
