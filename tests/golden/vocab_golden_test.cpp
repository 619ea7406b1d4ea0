// Vocabularies published in GGUF files against the ids of the reference tokenizers (vectors/ecosystem/vocab): for each
// X.gguf.xz the texts of X.gguf.inp, separated by lines "__ggml_vocab_test__", and one line of ids per text in
// X.gguf.out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "base/file.h"
#include "base/random.h"
#include "base/utf8.h"
#include "io/gguf.h"
#include "models/gguf_tokenizer.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle {
namespace {

using text::EncodeOptions;
using text::TokenId;
using text::Tokenizer;
using Ids = std::vector<TokenId>;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

std::string run(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  std::string out;
  char buffer[1 << 16];
  for (size_t n; pipe && (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  EXPECT_TRUE(pipe && ::pclose(pipe) == 0) << command;
  return out;
}

std::vector<std::string> split_texts(const std::string& all) {
  const std::string mark = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  size_t from = 0;
  for (size_t at = all.find(mark); at != std::string::npos; at = all.find(mark, from)) {
    texts.push_back(all.substr(from, at - from));
    from = at + mark.size();
  }
  return texts;
}

std::vector<Ids> read_ids(const std::string& all) {
  std::vector<Ids> rows;
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    rows.emplace_back();
    for (TokenId id; numbers >> id;) rows.back().push_back(id);
  }
  return rows;
}

struct Published {
  std::string name, bytes;
  std::shared_ptr<const Tokenizer> tokenizer;
};

Published load(const std::string& dir, const std::string& xz_name) {
  Published p;
  p.name = xz_name.substr(0, xz_name.size() - 3);
  p.bytes = run("xz -dc '" + path_join(dir, xz_name) + "'");
  const auto file = io::GgufFile::parse(std::as_bytes(std::span(p.bytes)), p.name);
  p.tokenizer = text::make_gguf_tokenizer(models::gguf_vocab(file));
  return p;
}

// Calls check for every published vocabulary.
template <typename Check>
void for_each_vocabulary(const Check& check) {
  const char* vectors = std::getenv("FETTLE_VECTORS_DIR");
  if (!vectors) GTEST_SKIP() << "FETTLE_VECTORS_DIR is not set";
  const std::string dir = path_join(vectors, "ecosystem/vocab");
  size_t found = 0;
  for (const std::string& name : list_directory(dir)) {
    if (!name.ends_with(".gguf.xz")) continue;
    SCOPED_TRACE(name);
    check(dir, load(dir, name));
    ++found;
  }
  EXPECT_GT(found, 0u) << dir;
}

TEST(PublishedVocabularies, IdsOfTheReferenceTokenizers) {
  for_each_vocabulary([](const std::string& dir, const Published& p) {
    const auto texts = split_texts(read_file(path_join(dir, p.name + ".inp"), 1 << 20));
    const auto want = read_ids(read_file(path_join(dir, p.name + ".out"), 1 << 20));
    ASSERT_EQ(texts.size(), want.size());
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(p.tokenizer->encode(texts[i], kPlain), want[i]) << "line " << i << ": \"" << texts[i] << '"';
  });
}

// Metadata written and read again gives the same tokenizer.
TEST(PublishedVocabularies, SurviveWriting) {
  for_each_vocabulary([](const std::string& dir, const Published& p) {
    io::GgufMetadata metadata;
    models::write_gguf_vocab(text::to_gguf_vocab(*p.tokenizer), metadata);
    std::string bytes = "GGUF";
    const auto number = [&](uint64_t value, int size) {
      for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
    };
    number(3, 4);  // version
    number(0, 8);  // tensors
    number(metadata.count(), 8);
    bytes += metadata.encoded();
    bytes.resize((bytes.size() + 31) / 32 * 32);
    const auto file = io::GgufFile::parse(std::as_bytes(std::span(bytes)), "copy.gguf");
    const auto copy = text::make_gguf_tokenizer(models::gguf_vocab(file));
    EXPECT_EQ(copy->vocab_size(), p.tokenizer->vocab_size());
    EXPECT_EQ(copy->eog_ids(), p.tokenizer->eog_ids());
    for (const std::string& text : split_texts(read_file(path_join(dir, p.name + ".inp"), 1 << 20)))
      EXPECT_EQ(copy->encode(text), p.tokenizer->encode(text));
  });
}

// Vocabularies that cover every byte give any text back; streaming equals decoding.
TEST(PublishedVocabularies, RoundTrip) {
  for_each_vocabulary([](const std::string&, const Published& p) {
    const bool lossless = p.name.find("bert") == std::string::npos;  // lower case, no white space, [UNK]
    Random random(3);
    for (int round = 0; round < 3000; ++round) {
      std::string text = "x";
      for (uint64_t n = random.below(60); n > 0; --n) {
        const uint64_t kind = random.below(4);
        const uint64_t c = kind < 2 ? 32 + random.below(95) : kind == 2 ? random.below(0x3000) : random.below(0x110000);
        const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        const bool normalised = p.name.find("qwen") != std::string::npos && c >= 0x300;  // NFC may change it
        if (!surrogate && !normalised && c != 0x2581) utf8::append(text, static_cast<char32_t>(c));
      }
      const Ids ids = p.tokenizer->encode(text, kPlain);
      if (lossless) {
        EXPECT_EQ(p.tokenizer->decode(ids, false), text);
      }
      text::StreamDecoder stream(*p.tokenizer, false);
      std::string streamed;
      for (TokenId id : ids) streamed += stream.push(id);
      streamed += stream.flush();
      EXPECT_EQ(streamed, p.tokenizer->decode(ids, false));
    }
  });
}

}  // namespace
}  // namespace fettle
