#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fettle::engine {

// Watches streamed text for stop strings, also when they span several pieces. Text that may still become part of a stop
// string is held back.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Adds text; returns what may be shown now. After a match only the text before it is ever returned.
  std::string push(std::string_view text);
  std::string flush();  // the held-back rest, at the end of generation
  bool matched() const { return matched_; }

 private:
  size_t held_suffix() const;  // longest suffix of pending_ that is a proper prefix of a stop string

  std::vector<std::string> stops_;
  std::string pending_;
  bool matched_ = false;
};

}  // namespace fettle::engine
