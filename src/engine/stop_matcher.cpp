#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace fettle::engine {

std::string StopMatcher::push(std::string_view text) {
  if (matched_) return {};
  pending_ += text;
  // The match that ends first wins, as it would if characters came one at a time; of those the longest.
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = pending_.find(stop);
    if (at == std::string::npos || at + stop.size() > end) continue;
    begin = at + stop.size() < end ? at : std::min(begin, at);
    end = at + stop.size();
  }
  if (begin != std::string::npos) {
    matched_ = true;
    pending_.resize(begin);
    return std::exchange(pending_, {});
  }
  const size_t keep = held_suffix();
  std::string out = pending_.substr(0, pending_.size() - keep);
  pending_.erase(0, out.size());
  return out;
}

std::string StopMatcher::flush() { return matched_ ? std::string() : std::exchange(pending_, {}); }

size_t StopMatcher::held_suffix() const {
  size_t longest = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, pending_.size()); n > longest; --n)
      if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, n))) longest = n;
  return longest;
}

}  // namespace fettle::engine
