#include "text/sentencepiece_proto.h"

#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "text/vocab.h"

namespace fettle::text {
namespace {

// One field of a message.
struct Field {
  uint32_t number = 0;
  enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } wire = Wire::kVarint;
  uint64_t value = 0;      // varint and fixed
  std::string_view bytes;  // length-delimited
};

class Message {
 public:
  Message(std::string_view bytes, std::string_view whole, std::string_view source)
      : bytes_(bytes), whole_(whole), source_(source) {}

  bool next(Field* field) {
    if (pos_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) bad("field number");
    field->number = static_cast<uint32_t>(tag >> 3);
    field->value = 0;
    field->bytes = {};
    switch (tag & 7) {
      case 0:
        field->wire = Field::Wire::kVarint;
        field->value = varint();
        break;
      case 1:
        field->wire = Field::Wire::kFixed64;
        field->value = fixed(8);
        break;
      case 2: {
        field->wire = Field::Wire::kBytes;
        const uint64_t size = varint();
        if (size > bytes_.size() - pos_) bad("length");
        field->bytes = bytes_.substr(pos_, size);
        pos_ += size;
        break;
      }
      case 5:
        field->wire = Field::Wire::kFixed32;
        field->value = fixed(4);
        break;
      default:
        bad("wire type");
    }
    return true;
  }

  Message sub(const Field& field) const {
    expect(field, Field::Wire::kBytes);
    return Message(field.bytes, whole_, source_);
  }
  std::string text(const Field& field) const {
    expect(field, Field::Wire::kBytes);
    return std::string(field.bytes);
  }
  float number(const Field& field) const {
    expect(field, Field::Wire::kFixed32);
    const float value = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    if (!std::isfinite(value)) bad("score (not finite)");
    return value;
  }
  int32_t integer(const Field& field) const {
    expect(field, Field::Wire::kVarint);
    return static_cast<int32_t>(static_cast<uint32_t>(field.value));  // negative int32 come as 64-bit two's complement
  }
  bool boolean(const Field& field) const {
    expect(field, Field::Wire::kVarint);
    return field.value != 0;
  }
  [[noreturn]] void bad(std::string_view what) const {
    fail(ErrorCode::kInput, "{}: invalid {} at byte {} of {} (not a SentencePiece model, or damaged)", source_, what,
         static_cast<size_t>(bytes_.data() - whole_.data()) + pos_, whole_.size());
  }

 private:
  void expect(const Field& field, Field::Wire wire) const {
    if (field.wire != wire) bad("wire type of a known field");
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (pos_ == bytes_.size()) bad("end of a number");
      const auto b = static_cast<unsigned char>(bytes_[pos_++]);
      if (shift == 63 && b > 1) bad("number");
      value |= static_cast<uint64_t>(b & 0x7F) << shift;
      if (!(b & 0x80)) return value;
    }
    bad("number");
  }
  uint64_t fixed(size_t n) {
    if (n > bytes_.size() - pos_) bad("end of a number");
    uint64_t value = 0;
    for (size_t i = 0; i < n; ++i)
      value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes_[pos_ + i])) << (8 * i);
    pos_ += n;
    return value;
  }

  std::string_view bytes_, whole_, source_;
  size_t pos_ = 0;
};

SentencePieceModel::Piece read_piece(Message message) {
  SentencePieceModel::Piece piece;
  for (Field f; message.next(&f);) {
    if (f.number == 1) piece.text = message.text(f);
    if (f.number == 2) piece.score = message.number(f);
    if (f.number == 3) piece.type = message.integer(f);
  }
  if (piece.type < 1 || piece.type > 6) message.bad("piece type");
  if (piece.text.empty()) message.bad("piece (empty)");
  if (!utf8::is_valid(piece.text)) message.bad("piece (not UTF-8)");
  return piece;
}

void read_trainer(Message message, SentencePieceModel& model) {
  for (Field f; message.next(&f);) {
    if (f.number == 3) {
      const int32_t type = message.integer(f);
      if (type < 1 || type > 4) message.bad("model type");
      model.type = static_cast<SentencePieceModel::Type>(type);
    }
    if (f.number == 24) model.treat_whitespace_as_suffix = message.boolean(f);
    if (f.number == 35) model.byte_fallback = message.boolean(f);
    if (f.number == 40) model.unk_id = message.integer(f);
    if (f.number == 41) model.bos_id = message.integer(f);
    if (f.number == 42) model.eos_id = message.integer(f);
    if (f.number == 43) model.pad_id = message.integer(f);
  }
}

void read_normalizer(Message message, SentencePieceModel& model) {
  for (Field f; message.next(&f);) {
    if (f.number == 2) model.precompiled_charsmap = message.text(f);
    if (f.number == 3) model.add_dummy_prefix = message.boolean(f);
    if (f.number == 4) model.remove_extra_whitespaces = message.boolean(f);
    if (f.number == 5) model.escape_whitespaces = message.boolean(f);
  }
}

}  // namespace

SentencePieceModel read_sentencepiece_proto(std::string_view bytes, std::string_view source) {
  SentencePieceModel model;
  Message message(bytes, bytes, source);
  for (Field f; message.next(&f);) {
    if (f.number == 1) {
      if (model.pieces.size() >= kMaxVocabulary) message.bad("number of pieces");
      model.pieces.push_back(read_piece(message.sub(f)));
    }
    if (f.number == 2) read_trainer(message.sub(f), model);
    if (f.number == 3) read_normalizer(message.sub(f), model);
  }
  if (model.pieces.empty()) fail(ErrorCode::kInput, "{}: no pieces found (not a SentencePiece model?)", source);
  return model;
}

}  // namespace fettle::text
