#include "text/models/marked_words.h"

namespace fettle::text {

bool words_are_independent(const Vocab& vocab) {
  if (vocab.find(kWordMark) < 0) return false;
  for (TokenId id = 0; static_cast<size_t>(id) < vocab.size(); ++id) {
    std::string_view piece = vocab.piece(id);
    while (piece.starts_with(kWordMark)) piece.remove_prefix(kWordMark.size());
    if (piece.find(kWordMark) != std::string_view::npos) return false;
  }
  return true;
}

}  // namespace fettle::text
