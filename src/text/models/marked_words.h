#pragma once

#include <string_view>

#include "text/vocab.h"

namespace fettle::text {

// SentencePiece-style models see a whole text as one piece, in which U+2581 stands for spaces. Where no piece of the
// vocabulary has that mark behind another character, no merge can cross from a word into the next, so words can be
// tokenised one by one (and cached) with the same result.
inline constexpr std::string_view kWordMark = "\xE2\x96\x81";

// Whether that holds for a vocabulary; the mark itself must be a piece.
bool words_are_independent(const Vocab& vocab);

// Calls visit for each word: marks followed by other characters.
template <typename Visit>
void for_each_marked_word(std::string_view text, const Visit& visit) {
  size_t begin = 0;
  for (size_t at = text.find(kWordMark); at != std::string_view::npos;) {
    if (at > begin && !text.substr(begin, at - begin).ends_with(kWordMark)) {
      visit(text.substr(begin, at - begin));
      begin = at;
    }
    at = text.find(kWordMark, at + kWordMark.size());
  }
  if (begin < text.size()) visit(text.substr(begin));
}

}  // namespace fettle::text
