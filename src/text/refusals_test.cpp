// Malformed and inconsistent tokenizer files: each is refused with its place, and limits hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <typename Call>
std::string refusal(const Call& call, ErrorCode code = ErrorCode::kInput) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(error_name(e.code()), error_name(code)) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

std::string refuse_json(const std::string& text) {
  return refusal([&] { parse_tokenizer_json(text, "t.json"); });
}

// A minimal file with one section replaced.
std::string with(const std::string& key, const std::string& value) {
  Json json = parse_json(R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
      "decoder": null, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})",
                         "base");
  json[key] = parse_json(value, "value");
  return json.dump();
}

TEST(Refusals, VocabularyIds) {
  EXPECT_THAT(refuse_json(with("model", R"({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []})")),
              HasSubstr(R"(t.json: token id 0 stands for both "a" and "b")"));
  EXPECT_THAT(refuse_json(with("model", R"({"type": "BPE", "vocab": {"a": -1}, "merges": []})")),
              HasSubstr("expected an integer in [0, 4194304), found -1"));
  EXPECT_THAT(refuse_json(with("model", R"({"type": "BPE", "vocab": {"a": 4194304}, "merges": []})")),
              HasSubstr("found 4194304"));
  EXPECT_THAT(refuse_json(with("model", R"({"type": "BPE", "vocab": {"a": 1.5}, "merges": []})")),
              HasSubstr("found 1.5"));
  EXPECT_THAT(refuse_json(with("model", R"({"type": "BPE", "vocab": {"a": 0, "b": 100}, "merges": []})")),
              HasSubstr("99 of 101 token ids have no piece"));
  EXPECT_THAT(refuse_json(R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})"),
              HasSubstr("duplicate key"));
}

TEST(Refusals, HolesUpToATenthAreAccepted) {
  std::string vocab;
  for (int i = 0; i < 90; ++i) vocab += fmt::format("{}\"p{}\": {}", i ? ", " : "", i, i);
  const auto model = [&](int last) {
    return with("model", R"({"type": "WordLevel", "unk_token": "p0", "vocab": {)" + vocab +
                             fmt::format(", \"z\": {}", last) + "}}");
  };
  const auto t = parse_tokenizer_json(model(100), "t.json");  // 91 pieces, 10 holes of 101
  EXPECT_EQ(t->vocab_size(), 101u);
  EXPECT_EQ(t->token_text(95), "");
  EXPECT_EQ(t->decode(std::vector<TokenId>{0, 95, 100}, false), "p0 z");
  refuse_json(model(101));
}

TEST(Refusals, Merges) {
  const auto merges = [](const std::string& list) {
    return with("model", R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": )" + list + "}");
  };
  EXPECT_THAT(refuse_json(merges(R"(["a b", "a c"])")), AllOf(HasSubstr("model.merges[1]"), HasSubstr("\"c\"")));
  EXPECT_THAT(refuse_json(merges(R"(["b a"])")), AllOf(HasSubstr("model.merges[0]"), HasSubstr("\"ba\"")));
  EXPECT_THAT(refuse_json(merges(R"(["ab"])")), HasSubstr("two pieces with one space"));
  EXPECT_THAT(refuse_json(merges(R"(["a b c"])")), HasSubstr("two pieces with one space"));
  EXPECT_THAT(refuse_json(merges(R"([["a", "b", "c"]])")), HasSubstr("[left, right]"));
  EXPECT_THAT(refuse_json(merges(R"([7])")), HasSubstr("model.merges[0]"));
  EXPECT_THAT(refuse_json(with("model", R"({"type": "BPE", "vocab": {"a": 0}})")), HasSubstr("model.merges: missing"));
}

TEST(Refusals, AddedTokens) {
  EXPECT_THAT(refuse_json(with("added_tokens", R"([{"id": 1, "content": "a"}])")), HasSubstr("both id 0 and id 1"));
  EXPECT_THAT(refuse_json(with("added_tokens", R"([{"id": 1, "content": "x"}])")), HasSubstr(R"(both "b" and "x")"));
  EXPECT_THAT(refuse_json(with("added_tokens", R"([{"content": "x"}])")), HasSubstr("added_tokens[0].id: missing"));
  EXPECT_THAT(refuse_json(with("added_tokens", R"([{"id": 3, "content": ")" + std::string(2000, 'x') + "\"}]")),
              HasSubstr("2000 bytes, the limit is 1024"));
  EXPECT_THAT(refuse_json(with("added_tokens", R"({"x": 1})")), HasSubstr("expected array"));
}

TEST(Refusals, UnknownTypesAndWrongFields) {
  EXPECT_THAT(refuse_json(with("normalizer", R"({"type": "Rot13"})")),
              AllOf(HasSubstr("normalizer.type"), HasSubstr("NFKC"), HasSubstr("Rot13")));
  EXPECT_THAT(refuse_json(with("pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "X"}]})")),
              HasSubstr("pre_tokenizer.pretokenizers[0].type"));
  EXPECT_THAT(refuse_json(with("decoder", R"({"type": "X"})")), HasSubstr("decoder.type"));
  EXPECT_THAT(refuse_json(with("post_processor", R"({"type": "X"})")), HasSubstr("post_processor.type"));
  EXPECT_THAT(refuse_json(with("model", R"({"type": "X", "vocab": {}})")), HasSubstr("model.type"));
  EXPECT_THAT(
      refuse_json(with("pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})")),
      HasSubstr("pre_tokenizer.pattern"));
  EXPECT_THAT(refuse_json(with("pre_tokenizer", R"({"type": "Split", "pattern": {"String": "x"}, "behavior": "No"})")),
              HasSubstr("MergedWithPrevious"));
  EXPECT_THAT(refuse_json(with("normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "AAAA"})")),
              HasSubstr("charsmap"));
  EXPECT_THAT(refuse_json(with("normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "A*"})")),
              HasSubstr("base64"));
  EXPECT_THAT(refuse_json(with("decoder", R"({"type": "Strip", "content": "", "start": 1, "stop": 0})")),
              HasSubstr("single character"));
  EXPECT_THAT(refuse_json(with("pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false,
                               "prepend_scheme": "always"})")),
              HasSubstr("contradicts"));
  EXPECT_THAT(refuse_json("{}"), HasSubstr("t.json: model: missing"));
  EXPECT_THAT(refuse_json("[]"), HasSubstr("t.json"));
}

TEST(Refusals, ByteTokens) {
  EXPECT_THAT(
      refuse_json(with("model", R"({"type": "BPE", "byte_fallback": true, "vocab": {"<0x0a>": 0}, "merges": []})")),
      HasSubstr("capital digits"));
}

TEST(Refusals, UnknownCharactersWithoutUnknownToken) {
  const auto unigram =
      parse_tokenizer_json(with("model", R"({"type": "Unigram", "unk_id": null, "vocab": [["a", -1]]})"), "t");
  EXPECT_THAT(refusal([&] { unigram->encode("ax"); }), HasSubstr("no unknown token"));
  EXPECT_EQ(unigram->encode("aa").size(), 2u);
}

TEST(Limits, LongTextWithoutSpaces) {
  const std::string stories = FETTLE_TEST_DATA "/models/stories260K";
  const auto spm = load_tokenizer_json(stories), raw = load_sentencepiece_model(stories + "/tokenizer.model");
  Random random(4);
  std::string letters(1'000'000, 'a');
  for (char& c : letters) c = static_cast<char>('a' + random.below(26));
  for (const std::string& text : {letters, std::string(1'000'000, 'h')}) {
    const auto ids = spm->encode(text, {.add_special = false});
    EXPECT_EQ(spm->decode(ids), text);
    EXPECT_EQ(raw->encode(text, {.add_special = false}), ids);
  }
}

TEST(Limits, TextSize) {
  const auto t = load_tokenizer_json(FETTLE_TEST_DATA "/models/stories260K");
  EXPECT_THAT(refusal([&] { t->encode(std::string((64 << 20) + 1, ' ')); }, ErrorCode::kResource),
              HasSubstr("67108865"));
}

TEST(Limits, NormalizerGrowth) {
  const std::string grow =
      R"({"type": "Replace", "pattern": {"String": "a"}, "content": ")" + std::string(100, 'b') + "\"}";
  const auto t = parse_tokenizer_json(with("normalizer", grow), "t.json");
  EXPECT_EQ(t->encode("aaa").size(), 300u);
  EXPECT_THAT(refusal([&] { t->encode(std::string(100'000, 'a')); }, ErrorCode::kResource), HasSubstr("the limit is"));
}

// ---- GGUF

GgufVocab tiny_gpt2() {
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "gpt2";
  v.pre = "gpt-2";
  v.tokens = {"a", "b", "ab", "<|end|>"};
  v.token_types = {1, 1, 1, 3};
  v.merges = {"a b"};
  v.eos = 3;
  return v;
}

std::string refuse_gguf(const GgufVocab& v) {
  return refusal([&] { make_gguf_tokenizer(v); });
}

TEST(Refusals, GgufVocabularies) {
  EXPECT_EQ(make_gguf_tokenizer(tiny_gpt2())->encode("abab"), (std::vector<TokenId>{2, 2}));
  GgufVocab v = tiny_gpt2();
  v.pre = "some-new-model";
  EXPECT_THAT(refuse_gguf(v),
              AllOf(HasSubstr("tokenizer.ggml.pre"), HasSubstr("llama-bpe"), HasSubstr("some-new-model")));
  v.pre.clear();
  refuse_gguf(v);
  v = tiny_gpt2();
  v.model = "rwkv";
  EXPECT_THAT(refuse_gguf(v), HasSubstr("gpt2, llama, bert or t5"));
  v = tiny_gpt2();
  v.token_types.pop_back();
  EXPECT_THAT(refuse_gguf(v), HasSubstr("expected 4 elements as in tokenizer.ggml.tokens, found 3"));
  v = tiny_gpt2();
  v.token_types[1] = 9;
  EXPECT_THAT(refuse_gguf(v), HasSubstr("token_type[1]"));
  v = tiny_gpt2();
  v.merges = {"a c"};
  EXPECT_THAT(refuse_gguf(v), AllOf(HasSubstr("merges[0]"), HasSubstr("\"c\"")));
  v.merges = {"ab"};
  EXPECT_THAT(refuse_gguf(v), HasSubstr("left right"));
  v = tiny_gpt2();
  v.eos = 4;
  EXPECT_THAT(refuse_gguf(v), HasSubstr("eos_token_id: 4 is outside the vocabulary of 4"));
  v.eos = -7;
  refuse_gguf(v);
  v = tiny_gpt2();
  v.tokens[1] = "\xFF";
  EXPECT_THAT(refuse_gguf(v), HasSubstr("tokens[1]: invalid UTF-8"));
  v = tiny_gpt2();
  v.tokens.clear();
  v.token_types.clear();
  EXPECT_THAT(refuse_gguf(v), HasSubstr("tokenizer.ggml.tokens"));
}

TEST(Refusals, GgufLlamaNeedsScoresAndByteTokens) {
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "llama";
  v.tokens = {"<unk>", "<0x41>"};
  v.token_types = {2, 6};
  EXPECT_THAT(refuse_gguf(v), HasSubstr("tokenizer.ggml.scores: missing"));
  v.scores = {0, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THAT(refuse_gguf(v), HasSubstr("not finite"));
  v.scores = {0, 0};
  v.tokens[1] = "<0x4g>";
  EXPECT_THAT(refuse_gguf(v), HasSubstr("byte token"));
}

}  // namespace
}  // namespace fettle::text
