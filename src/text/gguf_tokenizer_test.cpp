// GGUF vocabularies built here, and exports of the tokenizers of tests/data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "text/gguf_pre.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

std::string pieces(const Tokenizer& t, std::string_view text, EncodeOptions options = {.add_special = false}) {
  std::string out;
  for (TokenId id : t.encode(text, options)) out += (out.empty() ? "" : " ") + t.token_text(id);
  return out;
}

GgufVocab llama() {
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "llama";
  v.tokens = {"<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "▁a", "ab", "▁ab", "<tool>", "unused"};
  v.token_types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 4, 5};
  v.scores = {0, 0, 0, 0, -9, -9, -9, -1, -2, -3, 0, 0};
  return v;
}

TEST(GgufLlama, ScoresDecideMerges) {
  const auto t = make_gguf_tokenizer(llama());
  EXPECT_EQ(pieces(*t, "ab"), "▁ab");  // ▁+a (-1) before a+b (-2), then ▁a+b (-3)
  EXPECT_EQ(pieces(*t, "bab"), "▁ b ab");
  EXPECT_EQ(pieces(*t, "aab"), "▁a ab");
}

TEST(GgufLlama, DefaultsAndSpecialTokens) {
  GgufVocab v = llama();
  auto t = make_gguf_tokenizer(v);
  EXPECT_TRUE(t->adds_bos());  // default of this model
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(pieces(*t, "b</s>b"), "▁ b </s> ▁ b");  // the prefix space comes back after a special token
  EXPECT_EQ(pieces(*t, "b<tool>b"), "▁ b <tool> ▁ b");
  EXPECT_EQ(pieces(*t, "\n"), "▁ <0x0A>");
  EXPECT_EQ(pieces(*t, "?b"), "▁ <unk> b");
  EXPECT_EQ(t->decode(t->encode("b a")), "b a");
  v.add_space_prefix = false;
  v.add_bos = false;
  t = make_gguf_tokenizer(v);
  EXPECT_FALSE(t->adds_bos());
  EXPECT_EQ(pieces(*t, "b"), "b");
  EXPECT_EQ(t->decode(t->encode(" b")), " b");
}

TEST(GgufBert, WordPieceWithPhantomSpaces) {
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "bert";
  v.tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁low", "er", "▁est", "est", "▁,", "▁cafe", "low"};
  v.token_types = {3, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  v.bos = 2;
  v.sep = 3;
  v.unk = 1;
  const auto t = make_gguf_tokenizer(v);
  EXPECT_EQ(pieces(*t, "Lower, lowest LOWLOW"), "▁low er ▁, ▁low est ▁low low");
  EXPECT_EQ(pieces(*t, "CAFÉ est x"), "▁cafe ▁est [UNK]");
  EXPECT_EQ(pieces(*t, "low", {}), "[CLS] ▁low [SEP]");
  EXPECT_EQ(t->decode(t->encode("lower est")), "lower est");
  v.tokens.push_back("▁A");  // a vocabulary with capitals is cased
  v.token_types.push_back(1);
  EXPECT_EQ(pieces(*make_gguf_tokenizer(v), "A Low"), "▁A [UNK]");
}

TEST(GgufT5, UnigramWithEos) {
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "t5";
  v.tokens = {"<pad>", "</s>", "<unk>", "▁", "▁low", "er", "l", "o", "w"};
  v.token_types = {3, 3, 2, 1, 1, 1, 1, 1, 1};
  v.scores = {0, 0, 0, -2, -3, -4, -5, -5, -5};
  v.eos = 1;
  v.unk = 2;
  const auto t = make_gguf_tokenizer(v);
  EXPECT_EQ(pieces(*t, "  lower   low ", {}), "▁low er ▁low </s>");
  EXPECT_EQ(pieces(*t, "loxx"), "▁ l o <unk>");
}

TEST(GgufGpt2, EogNamesAreControlTokensWhateverTheirType) {
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "gpt2";
  v.pre = "qwen2";
  v.tokens = {"a", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<", "|"};
  v.token_types = {1, 1, 1, 4, 4, 1, 1};
  v.eot = 0;
  const auto t = make_gguf_tokenizer(v);
  EXPECT_TRUE(t->is_special(1));
  EXPECT_THAT(t->eog_ids(), ElementsAre(0, 1, 3, 4));  // harmony: <|end|> ends a message only
  for (TokenId id : t->encode("<|im_end|>", {.parse_special = false})) EXPECT_NE(id, 1);
}

TEST(GgufGpt2, HuggingFaceJsonIsPreferred) {
  const Json file = parse_json_file(FETTLE_TEST_DATA "/tokenizers/bpe_qwen2.json");
  GgufVocab v;
  v.source = "m.gguf";
  v.model = "gpt2";
  v.pre = "unheard-of";
  v.huggingface_json = JsonReader(file, "vectors").at("tokenizer").value().dump();
  v.eos = 5;
  const auto t = make_gguf_tokenizer(v);
  EXPECT_EQ(t->eos(), 5);
  EXPECT_EQ(t->encode("the theater"), parse_tokenizer_json(v.huggingface_json, "x")->encode("the theater"));
}

TEST(GgufPre, EveryRowHasPatterns) {
  for (const GgufPre& row : gguf_pre_table()) {
    EXPECT_FALSE(row.splits.empty()) << row.name;
    EXPECT_EQ(find_gguf_pre(row.name), &row);
    EXPECT_NE(make_gguf_pre_tokenizer(row), nullptr);
  }
  EXPECT_EQ(find_gguf_pre("llama-bpe2"), nullptr);
}

// ---- export

std::shared_ptr<const Tokenizer> vector_tokenizer(const std::string& name, size_t word_limit = 0) {
  Json file = parse_json_file(FETTLE_TEST_DATA "/tokenizers/" + name + ".json");
  if (word_limit > 0) file["tokenizer"]["model"]["max_input_chars_per_word"] = Json(static_cast<int64_t>(word_limit));
  return parse_tokenizer_json(file["tokenizer"].dump(), name);
}

struct Export {
  const char* name;
  const char* model;
  const char* pre;
};

TEST(GgufExport, KnownPipelinesKeepTheirIds) {
  const Json texts = parse_json_file(FETTLE_TEST_DATA "/tokenizers/texts.json");
  for (const Export& e : {Export{"bpe_gpt2", "gpt2", "gpt-2"},
                          {"bpe_llama3", "gpt2", "llama-bpe"},
                          {"bpe_qwen2", "gpt2", "qwen2"},
                          {"bpe_qwen35", "gpt2", "qwen35"},
                          {"bpe_o200k", "gpt2", "gpt-4o"},
                          {"bpe_tekken", "gpt2", "tekken"},
                          {"bpe_deepseek", "gpt2", "deepseek-v3"},
                          {"bpe_smollm", "gpt2", "smollm"},
                          {"wordpiece_uncased", "bert", ""}}) {
    SCOPED_TRACE(e.name);
    const auto t = vector_tokenizer(e.name, std::string(e.model) == "bert" ? 100 : 0);
    const GgufVocab v = to_gguf_vocab(*t);
    EXPECT_EQ(v.model, e.model);
    EXPECT_EQ(v.pre, e.pre);
    EXPECT_EQ(v.tokens.size(), t->vocab_size());
    const auto copy = make_gguf_tokenizer(v);
    for (const Json& text : texts.as_array()) {
      if (text.as_string().find("<mask>") != std::string::npos) continue;  // GGUF knows no lstrip and rstrip
      EXPECT_EQ(copy->encode(text.as_string(), {.add_special = false}),
                t->encode(text.as_string(), {.add_special = false}))
          << printable(text.as_string());
    }
  }
}

TEST(GgufExport, SentencePieceBpeGetsScores) {
  const auto t = load_tokenizer_json(FETTLE_TEST_DATA "/models/stories260K");
  const GgufVocab v = to_gguf_vocab(*t);
  EXPECT_EQ(v.model, "llama");
  EXPECT_EQ(v.add_bos, true);
  EXPECT_EQ(v.add_space_prefix, true);
  EXPECT_EQ(v.token_types[0], 2);
  EXPECT_EQ(v.token_types[1], 3);
  EXPECT_EQ(v.token_types[3], 6);
  const auto copy = make_gguf_tokenizer(v);
  for (const char* text : {"Once upon a time, there was a girl.", " two  spaces\nnew line 🙂"})
    EXPECT_EQ(copy->encode(text), t->encode(text));
  EXPECT_THAT(copy->eog_ids(), IsSupersetOf({2}));

  const auto raw = load_sentencepiece_model(FETTLE_TEST_DATA "/models/stories260K/tokenizer.model");
  EXPECT_EQ(to_gguf_vocab(*raw).remove_extra_whitespaces, true);
}

TEST(GgufExport, WhatHasNoEquivalentIsRefused) {
  for (const char* name : {"bpe_gpt2_prefix_space", "bpe_byte_level_not_last", "pre_whitespace", "bpe_clip_suffix",
                           "spm_unk_not_fused", "wordpiece_plain", "wordpiece_uncased"}) {
    SCOPED_TRACE(name);
    const auto t = vector_tokenizer(name);
    try {
      to_gguf_vocab(*t);
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
      EXPECT_THAT(e.what(), HasSubstr("GGUF"));
    }
  }
}

}  // namespace
}  // namespace fettle::text
