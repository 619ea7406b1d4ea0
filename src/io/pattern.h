#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace fettle::io {

// A module-name pattern of a checkpoint's quantisation config: "re:<regex>" matches from the start of the name (as
// Python's re.match), anything else is an exact module name, a class name ("Linear") or, with `*`, a glob over the
// whole name. Regexes run in PCRE2 with bounded pattern size, steps, depth and memory, since they come from outside.
class NamePattern {
 public:
  // Throws kInput naming `source` for a regex that does not compile or is longer than 8 KiB.
  NamePattern(std::string_view text, const std::string& source);
  // Throws kInput when a regex exceeds its step limit on this name.
  bool matches(std::string_view module, std::string_view class_name) const;
  const std::string& text() const { return text_; }

 private:
  struct Regex;
  std::string text_, source_;
  std::shared_ptr<const Regex> regex_;  // "re:" patterns
};

}  // namespace fettle::io
