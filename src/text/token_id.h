#pragma once

#include <cstdint>

namespace fettle::text {

using TokenId = int32_t;  // index into the vocabulary; valid ids are 0 .. vocab_size-1

}  // namespace fettle::text
