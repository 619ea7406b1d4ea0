#include "decode/samplers/penalties.h"

#include <unordered_map>

namespace fettle::decoding {

std::span<const int32_t> last_tokens(std::span<const int32_t> history, int64_t n) {
  if (n < 0 || static_cast<size_t>(n) >= history.size()) return history;
  return history.last(static_cast<size_t>(n));
}

void apply_penalties(std::span<float> row, const Penalties& p, std::span<const int32_t> repeated,
                     std::span<const int32_t> counted) {
  const auto counts_of = [&](std::span<const int32_t> window) {
    std::unordered_map<int32_t, int> counts;
    for (int32_t id : window)
      if (id >= 0 && static_cast<size_t>(id) < row.size()) ++counts[id];
    return counts;
  };
  if (p.repetition != 1.0f)
    for (const auto& [id, count] : counts_of(repeated)) {
      float& x = row[static_cast<size_t>(id)];
      x = x > 0 ? x / p.repetition : x * p.repetition;
    }
  if (p.presence != 0.0f || p.frequency != 0.0f)
    for (const auto& [id, count] : counts_of(counted))
      row[static_cast<size_t>(id)] -= static_cast<float>(count) * p.frequency + p.presence;
}

}  // namespace fettle::decoding
