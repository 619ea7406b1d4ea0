#include "decode/samplers/dry.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "decode/samplers/penalties.h"

namespace fettle::decoding {
namespace {

using Breakers = std::vector<std::vector<int32_t>>;

// Tokens counted from the newest (0) backwards.
class Backwards {
 public:
  explicit Backwards(std::span<const int32_t> window) : window_(window) {}
  size_t size() const { return window_.size(); }
  int32_t operator[](size_t i) const { return window_[window_.size() - 1 - i]; }

 private:
  std::span<const int32_t> window_;
};

// Longest tail of a breaker whose head stands i tokens back and whose other tokens follow it; -1 when none matches.
int64_t matched_tail(const Backwards& back, size_t i, const Breakers& breakers) {
  int64_t longest = -1;
  for (const auto& b : breakers) {
    if (b.empty() || b[0] != back[i] || b.size() - 1 > i) continue;
    bool equal = true;
    for (size_t k = 1; k < b.size() && equal; ++k) equal = b[k] == back[i - k];
    if (equal) longest = std::max(longest, static_cast<int64_t>(b.size()) - 1);
  }
  return longest;
}

// How many of the newest tokens a repetition may span: up to the nearest breaker.
size_t repeat_limit(const Backwards& back, const Breakers& breakers) {
  if (breakers.empty()) return back.size();
  for (size_t i = 0; i < back.size(); ++i) {
    const int64_t tail = matched_tail(back, i, breakers);
    if (tail >= 0) return i - static_cast<size_t>(tail);
  }
  return back.size();
}

// z[k] = length of the common suffix of the context and of the context that ends k tokens earlier (k >= 1).
std::vector<size_t> suffix_matches(const Backwards& back) {
  std::vector<size_t> z(back.size(), 0);
  size_t left = 0, right = 0;  // [left, right) is the match that reaches furthest
  for (size_t k = 1; k < back.size(); ++k) {
    if (k < right) z[k] = std::min(right - k, z[k - left]);
    while (k + z[k] < back.size() && back[z[k]] == back[k + z[k]]) ++z[k];
    if (k + z[k] > right) {
      left = k;
      right = k + z[k];
    }
  }
  return z;
}

bool is_single_breaker(int32_t id, const Breakers& breakers) {
  return std::any_of(breakers.begin(), breakers.end(), [id](const auto& b) { return b.size() == 1 && b[0] == id; });
}

}  // namespace

void apply_dry(std::span<float> row, const Dry& dry, std::span<const int32_t> history) {
  if (dry.multiplier == 0 || dry.base < 1 || dry.last_n == 0) return;
  const auto allowed = static_cast<size_t>(std::max<int64_t>(dry.allowed_length, 0));
  const Backwards back(last_tokens(history, dry.last_n));
  if (back.size() <= allowed) return;
  const size_t limit = repeat_limit(back, dry.breakers);
  if (limit < allowed) return;

  std::unordered_map<int32_t, size_t> longest;  // token -> length of the run it would continue
  const std::vector<size_t> z = suffix_matches(back);
  for (size_t k = 1; k < z.size(); ++k) {
    const size_t run = std::min(z[k], limit);
    if (run >= allowed) {
      size_t& best = longest[back[k - 1]];
      best = std::max(best, run);
    }
  }
  const double log_base = std::log(static_cast<double>(dry.base));
  const double cap = dry.base > 1.000001f ? std::floor(88.7228391 / log_base) : INFINITY;
  for (const auto& [id, run] : longest) {
    if (id < 0 || static_cast<size_t>(id) >= row.size() || is_single_breaker(id, dry.breakers)) continue;
    const double exponent = std::min(static_cast<double>(run - allowed), cap);
    row[static_cast<size_t>(id)] -= static_cast<float>(dry.multiplier * std::exp(exponent * log_base));
  }
}

std::vector<std::vector<int32_t>> dry_breaker_tokens(
    std::string_view breaker, std::span<const std::string> pieces,
    const std::function<std::vector<int32_t>(std::string_view)>& encode, size_t max_tail) {
  std::set<std::vector<int32_t>> found;
  if (breaker.empty()) return {};
  for (size_t id = 0; id < pieces.size(); ++id) {
    const std::string_view piece = pieces[id];
    const auto head = static_cast<int32_t>(id);
    if (piece.find(breaker) != std::string_view::npos) {
      found.insert({head});
      continue;
    }
    for (size_t n = std::min(piece.size(), breaker.size() - 1); n > 0; --n) {
      if (!piece.ends_with(breaker.substr(0, n))) continue;
      std::vector<int32_t> sequence = encode(breaker.substr(n));
      if (sequence.size() > max_tail) sequence.resize(max_tail);
      sequence.insert(sequence.begin(), head);
      found.insert(std::move(sequence));
    }
  }
  return {found.begin(), found.end()};
}

}  // namespace fettle::decoding
