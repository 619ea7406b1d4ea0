#include "text/jinja/marked_text.h"

#include <algorithm>

namespace fettle::text::jinja {

bool MarkedText::input_at(size_t byte) const {
  const auto flips_before = std::upper_bound(flips_.begin(), flips_.end(), byte) - flips_.begin();
  return first_input_ != (flips_before % 2 == 1);
}

void MarkedText::append(std::string_view bytes, bool from_input) {
  if (bytes.empty()) return;
  if (bytes_.empty()) {
    first_input_ = from_input;
    flips_.clear();
  } else if (last_input() != from_input) {
    flips_.push_back(bytes_.size());
  }
  bytes_.append(bytes);
}

void MarkedText::append(const MarkedText& other) {
  if (other.flips_.empty()) return append(other.bytes_, other.first_input_);
  other.for_each_run([this](std::string_view run, bool input) { append(run, input); });
}

MarkedText MarkedText::slice(size_t begin, size_t end) const {
  MarkedText out;
  out.markup_ = markup_;
  if (begin >= end) return out;
  out.bytes_ = bytes_.substr(begin, end - begin);
  out.first_input_ = input_at(begin);
  for (auto flip = std::upper_bound(flips_.begin(), flips_.end(), begin); flip != flips_.end() && *flip < end; ++flip)
    out.flips_.push_back(*flip - begin);
  return out;
}

}  // namespace fettle::text::jinja
