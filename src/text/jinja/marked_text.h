#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::text::jinja {

// A UTF-8 string in which every byte knows whether it came from the template (trusted) or from the request (input).
// Origins are kept as offsets where they flip, so that a string of one origin carries no list at all. Equality and
// ordering of strings look at the bytes only.
class MarkedText {
 public:
  MarkedText() = default;
  explicit MarkedText(std::string bytes, bool from_input = false)
      : bytes_(std::move(bytes)), first_input_(from_input) {}

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  bool input_at(size_t byte) const;  // byte < size()
  bool any_input() const { return !bytes_.empty() && (first_input_ || !flips_.empty()); }

  void append(const MarkedText& other);
  void append(std::string_view bytes, bool from_input);
  MarkedText slice(size_t begin, size_t end) const;  // bytes [begin, end), begin <= end <= size()

  // Calls visit(std::string_view run, bool from_input) for each maximal run of one origin, in order.
  template <typename Visit>
  void for_each_run(Visit&& visit) const {
    size_t begin = 0;
    bool input = first_input_;
    const std::string_view all = bytes_;
    for (const size_t flip : flips_) {
      visit(all.substr(begin, flip - begin), input);
      begin = flip;
      input = !input;
    }
    if (begin < all.size()) visit(all.substr(begin), input);
  }

  // Python's Markup: set by the filters `safe` and `escape`; makes + and % escape the other operand.
  bool is_markup() const { return markup_; }
  void set_markup(bool markup) { markup_ = markup; }

 private:
  bool last_input() const { return first_input_ != (flips_.size() % 2 == 1); }

  std::string bytes_;
  std::vector<size_t> flips_;  // strictly increasing, inside (0, size())
  bool first_input_ = false;
  bool markup_ = false;
};

}  // namespace fettle::text::jinja
