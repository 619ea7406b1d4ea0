#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::text {

// The part of sentencepiece_model.proto that encoding needs (google/sentencepiece, field numbers of ModelProto).
struct SentencePieceModel {
  enum class Type { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  struct Piece {
    std::string text;
    float score = 0;
    int32_t type = 1;  // as GgufTokenType
  };
  std::vector<Piece> pieces;
  Type type = Type::kUnigram;
  bool byte_fallback = false;
  int32_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;  // -1: none
  bool treat_whitespace_as_suffix = false;
  std::string precompiled_charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Bounded, non-recursive protobuf reader. Throws kInput naming `source` and the byte offset.
SentencePieceModel read_sentencepiece_proto(std::string_view bytes, std::string_view source);

}  // namespace fettle::text
