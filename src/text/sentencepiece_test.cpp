// tokenizer.model files built here, field by field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "base/error.h"
#include "base/json.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- a protobuf writer for the fields of sentencepiece_model.proto

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 128; value >>= 7) out += static_cast<char>((value & 127) | 128);
  return out + static_cast<char>(value);
}
std::string number(uint32_t field, int64_t value) { return varint(field << 3) + varint(static_cast<uint64_t>(value)); }
std::string bytes(uint32_t field, std::string_view value) {
  return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}
std::string real(uint32_t field, float value) {
  std::string out = varint(field << 3 | 5);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int i = 0; i < 4; ++i) out += static_cast<char>(bits >> (8 * i) & 0xFF);
  return out;
}
std::string piece(std::string_view text, float score, GgufTokenType type = GgufTokenType::kNormal) {
  return bytes(1, bytes(1, text) + real(2, score) + number(3, static_cast<int>(type)));
}

constexpr int kUnigram = 1, kBpe = 2;
std::string trainer(int model_type, bool byte_fallback = false) {
  return bytes(2, number(3, model_type) + number(35, byte_fallback) + number(43, -1));
}
std::string normalizer(bool dummy_prefix, bool remove_extra, std::string_view charsmap = {}) {
  return bytes(3, (charsmap.empty() ? "" : bytes(2, charsmap)) + number(3, dummy_prefix) + number(4, remove_extra));
}
std::string specials() {
  return piece("<unk>", 0, GgufTokenType::kUnknown) + piece("<s>", 0, GgufTokenType::kControl) +
         piece("</s>", 0, GgufTokenType::kControl);
}
std::string byte_pieces() {
  std::string out;
  for (int b = 0; b < 256; ++b) out += piece(fmt::format("<0x{:02X}>", b), 0, GgufTokenType::kByte);
  return out;
}

std::shared_ptr<const Tokenizer> load(const std::string& model) { return parse_sentencepiece_model(model, "t.model"); }

std::string pieces(const Tokenizer& t, std::string_view text) {
  std::string out;
  for (TokenId id : t.encode(text, {.add_special = false})) out += (out.empty() ? "" : " ") + t.token_text(id);
  return out;
}

std::string refusal(const std::string& model) {
  try {
    load(model);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInput);
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

TEST(SentencePiece, BpeMergesTheHighestScoreFirst) {
  const auto t = load(specials() + piece("▁", -9) + piece("a", -9) + piece("b", -9) + piece("c", -9) + piece("ab", -3) +
                      piece("bc", -2) + piece("abc", -4) + trainer(kBpe) + normalizer(true, true));
  EXPECT_EQ(pieces(*t, "abc"), "▁ abc");  // b+c first, then a+bc
  EXPECT_EQ(pieces(*t, "abab bcc"), "▁ ab ab ▁ bc c");
  EXPECT_EQ(pieces(*t, "  a   b "), "▁ a ▁ b");
  EXPECT_EQ(pieces(*t, "a??b"), "▁ a <unk> b");
  EXPECT_EQ(pieces(*t, ""), "");
  EXPECT_EQ(t->encode("a").front(), 1);  // BOS
  EXPECT_EQ(t->decode(t->encode("ab c")), "ab c");
  EXPECT_EQ(t->unk(), 0);
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->eos(), 2);
  EXPECT_FALSE(t->pad());
}

TEST(SentencePiece, TiesMergeOnTheLeft) {
  const auto t = load(specials() + piece("a", -1) + piece("aa", -1) + trainer(kBpe) + normalizer(false, false));
  EXPECT_EQ(pieces(*t, "aaaaa"), "aa aa a");
}

TEST(SentencePiece, UnusedPiecesAreSteppingStones) {
  const auto t =
      load(specials() + piece("a", -1) + piece("b", -1) + piece("c", -1) + piece("ab", -2, GgufTokenType::kUnused) +
           piece("abc", -3) + trainer(kBpe) + normalizer(false, false));
  EXPECT_EQ(pieces(*t, "abc"), "abc");  // by way of ab
  EXPECT_EQ(pieces(*t, "abb"), "a b b");
}

TEST(SentencePiece, ByteFallback) {
  const auto t = load(specials() + byte_pieces() + piece("▁", -1) + piece("a", -1) + trainer(kBpe, true) +
                      normalizer(true, false));
  EXPECT_EQ(pieces(*t, "aé"), "▁ a <0xC3> <0xA9>");
  EXPECT_EQ(pieces(*t, "\n"), "▁ <0x0A>");
  EXPECT_EQ(t->decode(t->encode("aé\n🙂")), "aé\n🙂");
}

TEST(SentencePiece, UserDefinedPiecesAreKeptWhole) {
  const auto t = load(specials() + piece("▁", -1) + piece("a", -1) + piece("<sep>", 0, GgufTokenType::kUserDefined) +
                      piece("<", -1) + piece("s", -1) + piece("e", -1) + piece("p", -1) + piece(">", -1) +
                      trainer(kBpe) + normalizer(true, true));
  EXPECT_EQ(pieces(*t, "a<sep>a"), "▁ a <sep> a");
  EXPECT_EQ(pieces(*t, "<sep>"), "▁ <sep>");
  const auto ids = t->encode("</s><sep>", {.add_special = false, .parse_special = false});
  EXPECT_EQ(t->token_text(ids.back()), "<sep>");
  for (TokenId id : ids) EXPECT_NE(id, 2);
}

TEST(SentencePiece, UnigramTakesTheBestPath) {
  const auto t = load(specials() + piece("▁", -3) + piece("a", -2) + piece("b", -2) + piece("ab", -5) +
                      piece("aba", -3) + piece("▁a", -4) + trainer(kUnigram) + normalizer(true, true));
  EXPECT_EQ(pieces(*t, "ab"), "▁a b");    // -6, against -7 for "▁ a b" and -8 for "▁ ab"
  EXPECT_EQ(pieces(*t, "aba"), "▁ aba");  // -6, against -8 for "▁a b a"
  EXPECT_EQ(pieces(*t, "a??b"), "▁a <unk> b");
}

// Blob of scripts/make_tokenizer_vectors.cjs: no-break space -> space, fi ligature -> fi, "x" -> "XX", "xy" -> "Y", ...
std::string test_charsmap() {
  const Json file = parse_json_file(FETTLE_TEST_DATA "/tokenizers/norm_precompiled.json");
  const std::string& base64 =
      JsonReader(file, "vectors").at("tokenizer").at("normalizer").at("precompiled_charsmap").string();
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (char c : base64) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    if ((count += 6) < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 0xFF);
  }
  return out;
}

TEST(SentencePiece, CharsmapTakesTheLongestKey) {
  std::string letters = specials() + piece("▁", -1);
  for (const char* c : {"a", "f", "i", "X", "Y", "z", "1", "+", "é"}) letters += piece(c, -1);
  const auto t = load(letters + trainer(kBpe) + normalizer(true, true, test_charsmap()));
  EXPECT_EQ(pieces(*t, "aﬁ"), "▁ a f i");
  EXPECT_EQ(pieces(*t, "xz"), "▁ X X z");
  EXPECT_EQ(pieces(*t, "xyz"), "▁ Y z");
  EXPECT_EQ(pieces(*t, "a\u00A0\u3000a"), "▁ a ▁ a");
  EXPECT_EQ(pieces(*t, "e\u0301①"), "▁ é 1");
  EXPECT_EQ(pieces(*t, "\u200B"), "");
  EXPECT_EQ(pieces(*t, "👍🏽"), "▁ + 1");
}

TEST(SentencePiece, DamagedFilesAreRefused) {
  const std::string good = specials() + piece("a", -1) + trainer(kBpe);
  EXPECT_NO_THROW(load(good));
  EXPECT_THAT(refusal(""), HasSubstr("t.model: no pieces"));
  EXPECT_THAT(refusal("{\"model\": 1}"), HasSubstr("t.model: invalid"));
  for (size_t cut = 1; cut < good.size(); ++cut) {  // any prefix: either refused or a shorter sound model
    try {
      load(good.substr(0, cut));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
    }
  }
  EXPECT_THAT(refusal(good + piece("a", -2)), HasSubstr("has both id 3 and id 4"));
  EXPECT_THAT(refusal(good + piece("<0xzz>", 0, GgufTokenType::kByte)),
              HasSubstr("piece 4: expected <0x00> .. <0xFF>"));
  EXPECT_THAT(refusal(good + piece("\xFF", 0)), HasSubstr("not UTF-8"));
  EXPECT_THAT(refusal(good + piece("x", std::numeric_limits<float>::infinity())), HasSubstr("not finite"));
  EXPECT_THAT(refusal(good + bytes(1, bytes(1, "x") + number(3, 17))), HasSubstr("piece type"));
  EXPECT_THAT(refusal(good + bytes(2, number(3, 3))), HasSubstr("model_type"));
  EXPECT_THAT(refusal(good + bytes(2, number(40, 99))), HasSubstr("unk_id: id 99"));
  EXPECT_THAT(refusal(good + "\x0A\xFF\xFF\xFF\xFF\x0F"), HasSubstr("length"));
  EXPECT_THAT(refusal(good + std::string("\x0F")), HasSubstr("wire type"));
  EXPECT_THAT(refusal(good + normalizer(true, true, "abc")), HasSubstr("charsmap"));
}

}  // namespace
}  // namespace fettle::text
