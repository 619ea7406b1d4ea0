#include "text/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/unicode.h"

namespace fettle::text {
namespace {

// Start of the character that ends at `end` (> 0).
size_t previous(std::string_view text, size_t end) {
  size_t pos = end - 1;
  while (pos > 0 && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80) --pos;
  return pos;
}

bool word_at(std::string_view text, size_t pos) { return unicode::is_word(utf8::decode(text, pos).code_point); }

size_t skip_spaces_left(std::string_view text, size_t end, size_t stop) {
  while (end > stop) {
    const size_t pos = previous(text, end);
    if (!unicode::is_space(utf8::decode(text, pos).code_point)) break;
    end = pos;
  }
  return std::max(end, stop);
}

size_t skip_spaces_right(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    const utf8::Decoded d = utf8::decode(text, pos);
    if (!unicode::is_space(d.code_point)) break;
    pos += d.length;
  }
  return pos;
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token, std::string_view content) {
  if (content.empty()) return;
  starts_[static_cast<unsigned char>(content[0])] = true;
  uint32_t node = 0;
  for (char c : content) {
    const uint64_t key = static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(c);
    const auto [it, added] = children_.try_emplace(key, static_cast<uint32_t>(pattern_of_.size()));
    if (added) pattern_of_.push_back(-1);
    node = it->second;
  }
  pattern_of_[node] = static_cast<int32_t>(patterns_.size());
  patterns_.push_back({token.id, token.single_word, token.lstrip, token.rstrip, token.special});
}

AddedTokenMatcher::Found AddedTokenMatcher::longest_at(std::string_view text, size_t pos) const {
  Found found;
  uint32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    const auto child = children_.find(static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (pattern_of_[node] >= 0) found = {i + 1, &patterns_[static_cast<size_t>(pattern_of_[node])]};
  }
  return found;
}

std::vector<AddedTokenMatcher::Fragment> AddedTokenMatcher::split(std::string_view text,
                                                                  const SpecialScope& scope) const {
  std::vector<Fragment> fragments;
  size_t done = 0;  // everything before is in fragments
  for (size_t pos = 0; pos < text.size() && !patterns_.empty();) {
    if (!starts_[static_cast<unsigned char>(text[pos])]) {
      ++pos;
      continue;
    }
    const Found found = longest_at(text, pos);
    if (!found.pattern) {
      ++pos;
      continue;
    }
    const Pattern& p = *found.pattern;
    size_t begin = pos, end = found.end;
    pos = end;
    if (p.special && !scope.allows(begin, end)) continue;
    if (p.single_word &&
        ((begin > 0 && word_at(text, previous(text, begin))) || (end < text.size() && word_at(text, end))))
      continue;
    if (p.lstrip) begin = skip_spaces_left(text, begin, done);
    if (p.rstrip) pos = end = skip_spaces_right(text, end);
    if (done < begin) fragments.push_back({done, begin, -1});
    fragments.push_back({begin, end, p.id});
    done = end;
  }
  if (done < text.size()) fragments.push_back({done, text.size(), -1});
  return fragments;
}

}  // namespace fettle::text
