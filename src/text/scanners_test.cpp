// Hand-written scanners against the regular expressions they replace, run by PCRE2.
#include "text/scanners.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "base/utf8.h"
#include "text/pre_tokenizer.h"
#include "text/regex.h"

namespace fettle::text {
namespace {

constexpr KnownPattern kAll[] = {KnownPattern::kGpt2,   KnownPattern::kCl100k, KnownPattern::kQwen2,
                                 KnownPattern::kQwen35, KnownPattern::kO200k,  KnownPattern::kTekken};

std::vector<Range> scan(KnownPattern pattern, std::string_view text) {
  std::vector<Range> pieces;
  for (size_t begin = 0; begin < text.size(); begin = pieces.back().end)
    pieces.push_back({begin, next_piece_end(pattern, text, begin)});
  return pieces;
}

std::string show(std::string_view text, const std::vector<Range>& pieces) {
  std::string out;
  for (const Range& r : pieces) out += "[" + std::string(text.substr(r.begin, r.end - r.begin)) + "]";
  return printable(out, 400);
}

// Characters that exercise the classes: every rule of the patterns has some of them.
const std::vector<std::string>& alphabet() {
  static const std::vector<std::string> kCharacters = {
      "a",      "b",      "s",      "S",      "t",      "T",      "r",      "e",      "E",      "v",      "l",
      "L",      "m",      "d",      "D",      "A",      "Z",      "\u017F", "'",      "'",      " ",      " ",
      " ",      "\n",     "\n",     "\r",     "\t",     "/",      ".",      "!",      "-",      "_",      "$",
      "1",      "2",      "0",      "½",      "²",      "Ⅷ",      "٣",      "é",      "É",      "ǅ",      "ʰ",
      "ª",      "漢",     "あ",     "א",      "\u0301", "\u0903", "\u20DD", "🙂",   "\u00A0", "\u0085", "\u180E",
      "\u2028", "\u3000", "\u200B", "\u200D", "\x01",   "\x7F",   "\uE000", "\uFFFD", "—",      "“"};
  return kCharacters;
}

class Scanners : public ::testing::TestWithParam<KnownPattern> {};

TEST_P(Scanners, EqualPcre2OnTextsOfTrickyCharacters) {
  const Regex regex(pattern_text(GetParam()), "test");
  Random random(21);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (uint64_t n = random.below(14); n > 0; --n) text += alphabet()[random.below(alphabet().size())];
    const auto want = regex.find_all(text), got = scan(GetParam(), text);
    ASSERT_EQ(got, want) << "seed 21, round " << round << "\n got " << show(text, got) << "\nwant " << show(text, want);
  }
}

// Any assigned character beside letters, spaces and apostrophes. ICU and PCRE2 know different Unicode versions; code
// points above U+30000 and the newest additions differ, so the planes in use are sampled and PCRE2 decides what counts.
TEST_P(Scanners, EqualPcre2OnRandomCharacters) {
  const Regex regex(pattern_text(GetParam()), "test"), assigned(R"(\P{Cn})", "test");
  Random random(22);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (uint64_t n = random.below(10); n > 0; --n) {
      const uint64_t kind = random.below(3);
      if (kind == 0) {
        text += alphabet()[random.below(24)];
        continue;
      }
      const uint64_t c = kind == 1 ? random.below(0x3000) : random.below(0x1F000);
      std::string character;
      if (c < 0xD800 || c > 0xDFFF) utf8::append(character, static_cast<char32_t>(c));
      if (!assigned.find_all(character).empty()) text += character;
    }
    const auto want = regex.find_all(text), got = scan(GetParam(), text);
    ASSERT_EQ(got, want) << "seed 22, round " << round << "\n got " << show(text, got) << "\nwant " << show(text, want);
  }
}

TEST_P(Scanners, IsRecognisedByItsText) {
  EXPECT_EQ(recognise_pattern(pattern_text(GetParam())), GetParam());
  EXPECT_EQ(recognise_pattern(std::string(pattern_text(GetParam())) + "|x"), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Patterns, Scanners, ::testing::ValuesIn(kAll));

TEST(Scanners, WrittenOutCases) {
  const auto pieces = [](KnownPattern p, std::string_view text) { return show(text, scan(p, text)); };
  EXPECT_EQ(pieces(KnownPattern::kGpt2, "It's  12345 x"), "[It]['s][ ][ 12345][ x]");
  EXPECT_EQ(pieces(KnownPattern::kCl100k, "IT'S 12345\n\n x"), "[IT]['S][ ][123][45][\\x0A\\x0A][ x]");
  EXPECT_EQ(pieces(KnownPattern::kQwen2, "(a) 123"), "[(a][)][ ][1][2][3]");
  EXPECT_EQ(pieces(KnownPattern::kO200k, "HTMLParser don'T//\n"), "[HTMLParser][ don'T][//\\x0A]");
  EXPECT_EQ(pieces(KnownPattern::kO200k, "camelCase ABc"), "[camel][Case][ ABc]");
  EXPECT_EQ(pieces(KnownPattern::kTekken, "don't 12"), "[don]['t][ ][1][2]");
}

}  // namespace
}  // namespace fettle::text
