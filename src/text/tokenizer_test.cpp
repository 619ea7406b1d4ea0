// Published models end to end: ids, special tokens, decoding and streaming.
#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "base/utf8.h"

namespace fettle::text {
namespace {

using ::testing::ElementsAre;
using Ids = std::vector<TokenId>;

std::string stories_dir() { return FETTLE_TEST_DATA "/models/stories260K"; }

// Small byte-level BPE in the layout of the books model.
constexpr const char* kByteLevelJson = R"({
  "added_tokens": [{"id": 0, "content": "<|end|>", "special": true, "normalized": false},
                   {"id": 1, "content": "<tool>", "special": false, "normalized": false}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": @VOCAB@, "merges": @MERGES@}
})";

std::string replace(std::string text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  FETTLE_CHECK(at != std::string::npos);
  return text.replace(at, what.size(), with);
}

// Ids: 0 <|end|>, 1 <tool>, 2..257 bytes in numeric order, then merges "h e" 258, "l l" 259, "he ll" 260, "hell o" 261.
std::shared_ptr<const Tokenizer> byte_level() {
  std::string vocab = R"({"<|end|>": 0)";
  int id = 2;
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    std::string symbol;
    utf8::append(symbol, itself ? b : next++);
    if (symbol == "\"" || symbol == "\\") symbol.insert(0, 1, '\\');
    vocab += fmt::format(", \"{}\": {}", symbol, id++);
  }
  vocab += R"(, "he": 258, "ll": 259, "hell": 260, "hello": 261})";
  std::string text = replace(kByteLevelJson, "@VOCAB@", vocab);
  return parse_tokenizer_json(replace(text, "@MERGES@", R"(["h e", "l l", "he ll", ["hell", "o"]])"), "test.json");
}

TEST(Stories, IdsOfLlamaCpp) {
  const auto t = load_tokenizer_json(stories_dir());
  EXPECT_THAT(t->encode("Once upon a time, there was a small dog named Tim."),
              ElementsAre(1, 403, 407, 261, 378, 432, 383, 286, 261, 262, 423, 388, 400, 428, 395, 326, 426));
  EXPECT_EQ(t->vocab_size(), 512u);
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->eos(), 2);
  EXPECT_EQ(t->unk(), 0);
  EXPECT_TRUE(t->adds_bos());
  EXPECT_FALSE(t->adds_eos());
  EXPECT_THAT(t->eog_ids(), ElementsAre(1, 2));  // generation_config.json ends a story with either
  EXPECT_TRUE(t->is_special(1));
  EXPECT_FALSE(t->is_special(300));
}

TEST(Stories, SentencePieceModelGivesTheSameIds) {
  const auto json = load_tokenizer_json(stories_dir());
  const auto spm = load_sentencepiece_model(stories_dir() + "/tokenizer.model");
  ASSERT_EQ(json->vocab_size(), spm->vocab_size());
  for (TokenId id = 0; id < 512; ++id) EXPECT_EQ(json->token_text(id), spm->token_text(id));
  Random random(7);
  const std::vector<std::string> words = {"Lily", " and",  " Ben", "\n", "  ", "🙂", "é", " saw", "!",    "happy",
                                          " 12",  "don't", "\t",   "▁",  "漢", "x",    " ", "...",  " w\"", "s"};
  int compared = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string text;
    for (uint64_t n = random.below(12); n > 0; --n) text += words[random.below(words.size())];
    // The model file removes extra white space (its default), the tokenizer.json written beside it does not.
    const bool squeezed = text.starts_with(' ') || text.ends_with(' ') || text.find("  ") != std::string::npos;
    if (squeezed) continue;
    ++compared;
    EXPECT_EQ(json->encode(text), spm->encode(text)) << printable(text);
    EXPECT_EQ(json->decode(json->encode(text)), spm->decode(spm->encode(text))) << printable(text);
  }
  EXPECT_GT(compared, 200);
  EXPECT_EQ(spm->encode("  Lily   and "), spm->encode("Lily and"));
}

TEST(Stories, DecodeGivesTheTextBack) {
  const auto t = load_tokenizer_json(stories_dir());
  for (const char* text : {"Lily and Ben", " two  spaces ", "line\nline", "🙂 漢字", "▁"}) {
    const std::string want = std::string(text) == "▁" ? " " : text;  // the mark itself cannot be told from a space
    EXPECT_EQ(t->decode(t->encode(text)), want);
  }
  EXPECT_EQ(t->decode(Ids{1, 403}, false), "<s> Once");
  EXPECT_EQ(t->token_text(403), "▁Once");
  EXPECT_EQ(t->token_bytes(403), " Once");
  EXPECT_EQ(t->token_bytes(3 + 0x0A), "\n");
  EXPECT_EQ(t->token_bytes(3 + 0xF0), "\xF0");
  EXPECT_EQ(t->decode(Ids{-1, 100000, 403}), "Once");
}

TEST(Stories, SpecialTokensOfUntrustedTextStayText) {
  const auto t = load_tokenizer_json(stories_dir());
  EXPECT_THAT(t->encode("</s>", {.add_special = false}), ElementsAre(2));
  const Ids ids = t->encode("</s>", {.add_special = false, .parse_special = false});
  for (TokenId id : ids) EXPECT_FALSE(t->is_special(id));
  EXPECT_EQ(t->decode(ids), "</s>");
}

// Ids listed in models/books-5m/README.md, made by the trainer of that tokenizer.
TEST(Stories, OnlyUntrustedPartsOfATextStayText) {
  const auto t = load_tokenizer_json(stories_dir());
  const std::string text = "</s>a</s>b</s>";
  const std::vector<TextRange> middle = {{4, 10}};  // a</s>b
  const Ids ids = t->encode(text, {.add_special = false, .untrusted = middle});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 2);
  EXPECT_EQ(ids.front(), 2);
  EXPECT_EQ(ids.back(), 2);
  const std::vector<TextRange> edge = {{2, 5}};  // a token that only partly comes from outside is text as well
  const Ids cut = t->encode(text, {.add_special = false, .untrusted = edge});
  EXPECT_EQ(std::count(cut.begin(), cut.end(), 2), 2);
  EXPECT_NE(cut.front(), 2);
}

TEST(Books, IdsOfItsReadme) {
  const auto t = load_tokenizer_json(FETTLE_SOURCE_DIR "/models/books-5m");
  const std::pair<std::string, Ids> cases[] = {
      {"Hello, world!", {76, 482, 115, 48, 1109, 37}},
      {"  two  spaces\n\nand a newline \t tab",
       {36, 668, 36, 545, 1455, 14, 14, 408, 262, 952, 112, 595, 36, 13, 260, 596}},
      {"It's 1984's café—naïve £12.50...", {711, 366, 1984, 61,  60,  56, 366, 279, 2648, 1583, 380, 1024, 199,
                                            179, 317, 36,   198, 167, 53, 54,  50,  57,   52,   681, 50}},
      {std::string(40, 'x'), Ids(40, 124)},
      {"ÉCOLE don't DON'T we'll", {199, 141, 71, 83, 80, 73, 712, 411, 463, 83, 82, 43, 88, 340, 753}},
      {"emoji 🙂 and 漢字", {606, 115, 110, 109, 36, 244, 163, 157, 134, 278, 36, 234, 192, 166, 233, 177, 155}},
  };
  for (const auto& [text, ids] : cases) {
    EXPECT_EQ(t->encode(text), ids) << text;
    EXPECT_EQ(t->decode(ids), text);
  }
  EXPECT_FALSE(t->adds_bos());
  EXPECT_THAT(t->eog_ids(), ElementsAre(0, 2));  // <|endoftext|>, <|im_end|>
}

TEST(ByteLevel, MergesInRankOrder) {
  const auto t = byte_level();
  const auto byte = [](char c) { return 2 + static_cast<TokenId>(static_cast<unsigned char>(c)); };
  EXPECT_THAT(t->encode("hello"), ElementsAre(261));
  EXPECT_THAT(t->encode(" hello"), ElementsAre(byte(' '), 261));
  EXPECT_THAT(t->encode("hell"), ElementsAre(260));
  EXPECT_THAT(t->encode("heo"), ElementsAre(258, byte('o')));
  EXPECT_THAT(t->encode("é"), ElementsAre(byte('\xC3'), byte('\xA9')));
  EXPECT_THAT(t->encode("a<|end|>b"), ElementsAre(byte('a'), 0, byte('b')));
  EXPECT_THAT(t->encode("<tool>", {.parse_special = false}), ElementsAre(1));
  EXPECT_EQ(t->encode("<|end|>", {.parse_special = false}).size(), 7u);
  EXPECT_EQ(t->token_text(2 + ' '), "Ġ");
  EXPECT_EQ(t->token_bytes(2 + 0xC3), "\xC3");
  EXPECT_FALSE(t->bos());
  EXPECT_EQ(t->token_id("hello"), 261);
  EXPECT_EQ(t->token_id("world"), std::nullopt);
}

TEST(ByteLevel, InvalidUtf8IsReadAsReplacementCharacters) {
  const auto t = byte_level();
  EXPECT_EQ(t->encode("a\xFFz\xE2\x82"), t->encode("a\uFFFDz\uFFFD"));
}

// decode(encode(t)) == t for byte-level tokenizers, whatever the text; streaming gives the same, and whole characters.
TEST(ByteLevel, RoundTripAndStreaming) {
  const auto t = byte_level();
  Random random(11);
  for (int round = 0; round < 1000; ++round) {
    std::string text;
    for (uint64_t n = random.below(40); n > 0; --n) {
      const uint64_t kind = random.below(4);
      const uint64_t c = kind == 0 ? random.below(0x80) : kind == 1 ? random.below(0x800) : random.below(0x110000);
      if (c < 0xD800 || c > 0xDFFF) utf8::append(text, static_cast<char32_t>(c));
    }
    const Ids ids = t->encode(text);
    EXPECT_EQ(t->decode(ids, false), text) << printable(text);
    StreamDecoder stream(*t, false);
    std::string streamed;
    for (TokenId id : ids) {
      const std::string part = stream.push(id);
      EXPECT_TRUE(utf8::is_valid(part));
      streamed += part;
    }
    streamed += stream.flush();
    EXPECT_EQ(streamed, text);
  }
}

// Random ids: broken characters, runs of byte tokens, specials, ids outside the vocabulary.
TEST(Streaming, EqualsDecodeForAnyIds) {
  const std::shared_ptr<const Tokenizer> tokenizers[] = {byte_level(), load_tokenizer_json(stories_dir())};
  Random random(5);
  for (const auto& t : tokenizers)
    for (const bool skip : {false, true})
      for (int round = 0; round < 500; ++round) {
        Ids ids;
        for (uint64_t n = random.below(30); n > 0; --n)
          ids.push_back(static_cast<TokenId>(random.below(random.below(2) ? 260 : t->vocab_size() + 3)));
        StreamDecoder stream(*t, skip);
        std::string streamed;
        for (TokenId id : ids) {
          const std::string part = stream.push(id);
          EXPECT_TRUE(utf8::is_valid(part));
          streamed += part;
        }
        streamed += stream.flush();
        EXPECT_EQ(streamed, t->decode(ids, skip));
      }
}

TEST(Streaming, EveryCharacterSplitOverTwoTokens) {
  const auto t = byte_level();
  for (const char* text : {"é", "漢", "🙂"}) {
    const Ids ids = t->encode(text);
    ASSERT_EQ(ids.size(), std::string(text).size());
    StreamDecoder stream(*t, true);
    for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(stream.push(ids[i]), "");
    EXPECT_EQ(stream.push(ids.back()), text);
  }
  StreamDecoder stream(*t, true);
  EXPECT_EQ(stream.push(2 + 0xF0), "");
  EXPECT_EQ(stream.push(2 + 0x9F), "");
  EXPECT_EQ(stream.push(2 + 'a'), "\uFFFDa");
  EXPECT_EQ(stream.push(2 + 0xF0), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
}

TEST(LoadTokenizer, EmptyFolderIsRefused) {
  try {
    load_tokenizer_json(FETTLE_TEST_DATA);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kIo);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("neither tokenizer.json nor tokenizer.model"));
  }
}

}  // namespace
}  // namespace fettle::text
