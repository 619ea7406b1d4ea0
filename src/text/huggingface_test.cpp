// tokenizer.json feature by feature against Hugging Face tokenizers: each file of tests/data/tokenizers holds a small
// tokenizer, its ids for the texts of texts.json and its decodings (scripts/make_tokenizer_vectors.cjs writes them).
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

const std::string kDir = FETTLE_TEST_DATA "/tokenizers";

std::vector<TokenId> read_ids(const JsonReader& json) {
  std::vector<TokenId> ids;
  for (const Json& id : json.array()) ids.push_back(static_cast<TokenId>(id.as_int()));
  return ids;
}

std::string show(const Tokenizer& t, const std::vector<TokenId>& ids) {
  std::string out;
  for (TokenId id : ids) out += "[" + t.token_text(id) + "]";
  return printable(out, 400);
}

class HuggingFace : public ::testing::TestWithParam<std::string> {};

TEST_P(HuggingFace, SameIdsAndTexts) {
  const Json file = parse_json_file(kDir + "/" + GetParam() + ".json");
  const Json texts = parse_json_file(kDir + "/texts.json");
  const JsonReader root(file, GetParam());
  const auto t = parse_tokenizer_json(root.at("tokenizer").value().dump(), GetParam());
  const JsonReader cases = root.at("cases"), decode = root.at("decode");
  ASSERT_GT(cases.array().size() + decode.array().size(), 0u);
  for (size_t i = 0; i < cases.array().size(); ++i) {
    const std::string& text = texts[i].as_string();
    const JsonReader c = cases.at(i);
    const auto want = read_ids(c.at("ids"));
    const auto got = t->encode(text, {.add_special = false});
    EXPECT_EQ(got, want) << "text " << i << " \"" << printable(text) << "\"\n got " << show(*t, got) << "\nwant "
                         << show(*t, want);
    EXPECT_EQ(t->encode(text), c.has("ids_special") ? read_ids(c.get("ids_special")) : want) << "text " << i;
    if (c.has("decoded")) {
      EXPECT_EQ(t->decode(want, true), c.get("decoded").string()) << "text " << i;
    }
  }
  for (size_t i = 0; i < decode.array().size(); ++i) {
    const JsonReader d = decode.at(i);
    const auto ids = read_ids(d.at("ids"));
    for (const bool skip : {true, false}) {
      const std::string& want = d.at(skip ? "text" : "text_special").string();
      EXPECT_EQ(t->decode(ids, skip), want) << "decode " << i << " " << show(*t, ids);
      StreamDecoder stream(*t, skip);
      std::string streamed;
      for (TokenId id : ids) streamed += stream.push(id);
      EXPECT_EQ(streamed + stream.flush(), want) << "stream " << i << " " << show(*t, ids);
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const std::string& name : list_directory(kDir))
    if (name.ends_with(".json") && name != "texts.json") found.push_back(name.substr(0, name.size() - 5));
  return found;
}

INSTANTIATE_TEST_SUITE_P(Files, HuggingFace, ::testing::ValuesIn(names()), [](const auto& p) { return p.param; });

}  // namespace
}  // namespace fettle::text
