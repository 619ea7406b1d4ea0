#include "compress/pipeline/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "compress/synth.h"
#include "compress/test_dir.h"

namespace fettle::compress {
namespace {

using ::testing::HasSubstr;

// The synthetic tokenizer: byte b is id 4 + b, no BOS.
class CalibrationTest : public ::testing::Test {
 protected:
  CalibrationTest() : pool_(1), model_(dir_ / "model") { synth(model_, {}, Overwrite::kYes, pool_); }
  Calibration load(const std::string& name, const std::string& text, int64_t samples, int64_t seqlen,
                   int64_t seed = 0) {
    write_file_atomic(dir_ / name, text);
    return load_calibration(model_, {dir_ / name, samples, seqlen, seed}, pool_);
  }
  std::string error(const std::string& name, const std::string& text, int64_t samples, int64_t seqlen) {
    try {
      load(name, text, samples, seqlen);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  testing::TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

std::string text_of(const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) out += static_cast<char>(id - 4);
  return out;
}

TEST_F(CalibrationTest, WindowsCoverTheTextInOrder) {
  const Calibration c = load("a.txt", "abcdefghij", 3, 3);
  ASSERT_EQ(c.samples.size(), 3u);
  EXPECT_EQ(text_of(c.samples[0]) + text_of(c.samples[1]) + text_of(c.samples[2]), "abcdefghi");
  EXPECT_EQ(c.tokens(), 9u);
  EXPECT_EQ(c.longest(), 3u);
}

TEST_F(CalibrationTest, SeedChoosesWindowsAndOnlyTheSeed) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += static_cast<char>('a' + i % 26);
  const auto first = load("a.txt", text, 5, 4, 1).samples;
  EXPECT_EQ(load("a.txt", text, 5, 4, 1).samples, first);
  EXPECT_NE(load("a.txt", text, 5, 4, 2).samples, first);
  for (size_t i = 1; i < first.size(); ++i) EXPECT_NE(first[i - 1], first[i]);
}

TEST_F(CalibrationTest, TooShortTextNamesBothCounts) {
  EXPECT_THAT(error("short.txt", "abcdefghij", 4, 3),
              ::testing::AllOf(HasSubstr("short.txt"), HasSubstr("4 windows of 3"),
                               HasSubstr("found 10 tokens, enough for 3")));
  EXPECT_THAT(error("bad.txt", "ab\xff", 1, 2), HasSubstr("byte 2"));
  EXPECT_THAT(error("a.txt", "abc", 0, 2), HasSubstr("--samples"));
  EXPECT_THAT(error("a.txt", "abc", 1, 1), HasSubstr("--seqlen"));
}

TEST_F(CalibrationTest, JsonLinesOfTextAndChat) {
  const std::string lines =
      "{\"text\": \"hello\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi <|im_end|>\"}]}\n{\"text\": "
      "\"x\"}\n";
  const Calibration c = load("c.jsonl", lines, 2, 64);
  EXPECT_EQ(text_of(c.samples[0]), "hello");
  // <|im_start|> is id 1, <|im_end|> id 2; the user's own stays text.
  EXPECT_EQ(c.samples[1].front(), 1);
  EXPECT_EQ(std::count(c.samples[1].begin(), c.samples[1].end(), 2), 1);
  EXPECT_EQ(load("c.jsonl", lines, 2, 3).samples[0].size(), 3u) << "cut";
  EXPECT_THAT(error("c.jsonl", lines, 3, 64), HasSubstr("found 2"));
  EXPECT_THAT(error("c.jsonl", "{\"text\": \"ab\"}\n{\"txt\": 1}\n", 1, 8), HasSubstr("c.jsonl:2"));
}

TEST_F(CalibrationTest, TheModelWritesItsOwn) {
  const auto draw = [&](int64_t seed) { return load_calibration(model_, {"self", 18, 9, seed}, pool_).samples; };
  const auto samples = draw(3);
  ASSERT_EQ(samples.size(), 18u);
  for (const auto& s : samples) EXPECT_EQ(s.size(), 9u);
  EXPECT_NE(samples[0], samples[1]);
  EXPECT_EQ(draw(3), samples);
  EXPECT_NE(draw(4), samples);
}

}  // namespace
}  // namespace fettle::compress
