#pragma once

#include <string_view>
#include <vector>

#include "text/token_id.h"

namespace fettle::text {

// Turns one pre-tokenised piece into token ids. Implementations are immutable apart from internal caches and may be
// used from several threads.
class Model {
 public:
  virtual ~Model() = default;
  virtual void tokenize(std::string_view piece, std::vector<TokenId>& out) const = 0;
};

}  // namespace fettle::text
