#pragma once

#include <string_view>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

namespace fettle::fuzz {

// What must hold for any tokenizer and text: ids are in the vocabulary, special tokens come only when asked for,
// decoding is well-formed UTF-8 and equals streaming. Errors other than fettle::Error escape and are findings.
inline void check_tokenizer(const text::Tokenizer& t, std::string_view text) {
  std::vector<text::TokenId> ids;
  try {
    ids = t.encode(text, {.add_special = false, .parse_special = false});
  } catch (const Error& e) {
    FETTLE_CHECK(e.code() == ErrorCode::kResource || e.code() == ErrorCode::kInput);
    return;
  }
  for (text::TokenId id : ids) FETTLE_CHECK(id >= 0 && static_cast<size_t>(id) < t.vocab_size());
  for (const bool skip : {false, true}) {
    const std::string whole = t.decode(ids, skip);
    FETTLE_CHECK(utf8::is_valid(whole));
    text::StreamDecoder stream(t, skip);
    std::string streamed;
    for (text::TokenId id : ids) streamed += stream.push(id);
    streamed += stream.flush();
    FETTLE_CHECK(streamed == whole);
  }
  for (text::TokenId id : ids) {
    t.token_bytes(id);
    FETTLE_CHECK(!t.token_text(id).empty());
  }
}

}  // namespace fettle::fuzz
