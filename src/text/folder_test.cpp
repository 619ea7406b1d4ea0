// The configuration files around tokenizer.json.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kTokenizer = R"({"added_tokens": [{"id": 3, "content": "<s>", "special": true},
    {"id": 4, "content": "</s>", "special": true}, {"id": 5, "content": "<|im_end|>", "special": true}],
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "decoder": {"type": "Fuse"}})";

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "fettle_folder_" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    put("tokenizer.json", kTokenizer);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void put(const char* name, std::string_view text) { write_file_atomic(path_join(dir_, name), text); }
  std::shared_ptr<const Tokenizer> load() { return load_tokenizer_json(dir_); }
  std::string refusal() {
    try {
      load();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
      return e.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
  std::string dir_;
};

TEST_F(Folder, TokenizerJsonAlone) {
  const auto t = load();
  EXPECT_FALSE(t->bos());
  EXPECT_FALSE(t->eos());
  EXPECT_THAT(t->eog_ids(), ElementsAre(5));  // by its name
  EXPECT_EQ(t->encode("ab"), load_tokenizer_json(path_join(dir_, "tokenizer.json"))->encode("ab"));
  EXPECT_EQ(t->tokenizer_json(), kTokenizer);
}

TEST_F(Folder, SpecialTokensByNameAndById) {
  put("tokenizer_config.json",
      R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null})");
  put("generation_config.json", R"({"eos_token_id": [0, 5]})");
  put("config.json", R"({"eos_token_id": 1, "hidden_size": 4})");
  const auto t = load();
  EXPECT_EQ(t->bos(), 3);
  EXPECT_EQ(t->eos(), 4);
  EXPECT_FALSE(t->pad());
  EXPECT_THAT(t->eog_ids(), ElementsAre(0, 1, 4, 5));
}

TEST_F(Folder, SpecialTokensMapAndConfigFillIn) {
  put("special_tokens_map.json", R"({"bos_token": "<s>"})");
  put("config.json", R"({"eos_token_id": [4, 5]})");
  const auto t = load();
  EXPECT_EQ(t->bos(), 3);
  EXPECT_EQ(t->eos(), 4);
}

TEST_F(Folder, ClassesWhoseFlagsDecide) {
  put("tokenizer_config.json",
      R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true, "add_eos_token": true})");
  EXPECT_THAT(load()->encode("ab"), ElementsAre(3, 2, 4));
  EXPECT_TRUE(load()->adds_bos());
  EXPECT_TRUE(load()->adds_eos());
  put("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer", "bos_token": "<s>", "add_bos_token": true})");
  EXPECT_THAT(load()->encode("ab"), ElementsAre(2));  // tokenizer.json decides
}

TEST_F(Folder, MoreAddedTokens) {
  put("tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<s>", "special": true},
      "6": {"content": "<tool>", "special": true, "lstrip": true}}})");
  put("added_tokens.json", R"({"<old>": 7, "<s>": 3})");
  const auto t = load();
  EXPECT_EQ(t->vocab_size(), 8u);
  EXPECT_TRUE(t->is_special(6));
  EXPECT_FALSE(t->is_special(7));
  EXPECT_THAT(t->encode("ab <tool><old>"), ElementsAre(2, 6, 7));
}

TEST_F(Folder, Contradictions) {
  put("tokenizer_config.json", R"({"bos_token": "<bos>"})");
  EXPECT_THAT(refusal(), HasSubstr("bos_token: \"<bos>\" is not a token of"));
  put("tokenizer_config.json", R"({"added_tokens_decoder": {"2": {"content": "<x>"}}})");
  EXPECT_THAT(refusal(), HasSubstr("token id 2 stands for both \"ab\" and \"<x>\""));
  put("tokenizer_config.json", R"({"added_tokens_decoder": {"-2": {"content": "<x>"}}})");
  EXPECT_THAT(refusal(), HasSubstr("the key is not a token id"));
  put("tokenizer_config.json", "{}");
  put("generation_config.json", R"({"eos_token_id": -1})");
  EXPECT_THAT(refusal(), HasSubstr("generation_config.json: eos_token_id"));
  put("generation_config.json", R"({"eos_token_id": )");
  EXPECT_THAT(refusal(), HasSubstr("invalid JSON"));
}

TEST_F(Folder, FallsBackToSentencePiece) {
  std::filesystem::remove(path_join(dir_, "tokenizer.json"));
  put("tokenizer.model", read_file(FETTLE_TEST_DATA "/models/stories260K/tokenizer.model", 1 << 20));
  put("generation_config.json", R"({"eos_token_id": 7})");
  const auto t = load();
  EXPECT_EQ(t->vocab_size(), 512u);
  EXPECT_THAT(t->eog_ids(), ElementsAre(2, 7));
}

}  // namespace
}  // namespace fettle::text
