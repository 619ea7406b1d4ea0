#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::decoding {

// DRY, "don't repeat yourself" (p-e-w, 2024): the longer the run that a token would continue, the more it is penalised.
struct Dry {
  float multiplier = 0;  // 0 = off
  float base = 1.75f;
  int64_t allowed_length = 2;
  int64_t last_n = -1;  // tokens looked back at; -1 = all, 0 = off
  // Sequences that a repetition does not reach across. A breaker of one token is never penalised itself.
  std::vector<std::vector<int32_t>> breakers;
};

// For each earlier occurrence of the context's end, of length n >= allowed_length, the token that followed it loses
// multiplier * base^(n - allowed_length), with the longest n; the exponent is capped at floor(88.72 / ln base), where
// F32 overflows. Linear in the window (Z-algorithm on the reversed context).
void apply_dry(std::span<float> row, const Dry& dry, std::span<const int32_t> history);

// A breaker given as text, as token sequences: every vocabulary token that contains it, and every token whose end is
// the beginning of it, followed by the tokens of the rest (at most max_tail). `pieces` are the tokens' texts by id.
std::vector<std::vector<int32_t>> dry_breaker_tokens(
    std::string_view breaker, std::span<const std::string> pieces,
    const std::function<std::vector<int32_t>(std::string_view)>& encode, size_t max_tail = 20);

}  // namespace fettle::decoding
