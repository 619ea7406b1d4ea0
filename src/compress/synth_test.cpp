#include "compress/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "compress/manifest.h"
#include "io/safetensors.h"
#include "text/tokenizer.h"

namespace fettle::compress {
namespace {

class SynthTest : public ::testing::Test {
 protected:
  SynthTest()
      : dir_(::testing::TempDir() + "fettle_synth_" + ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(dir_);
  }
  ~SynthTest() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST(FillNormal, HasTheMomentsOfANormalDistribution) {
  std::vector<float> v(1 << 20);
  fill_normal(7, 3, 0, 2.0f, v);
  double sum = 0, squares = 0, fourth = 0;
  for (const float x : v) {
    sum += x;
    squares += static_cast<double>(x) * x;
    fourth += std::pow(static_cast<double>(x), 4);
  }
  const auto n = static_cast<double>(v.size());
  // Standard errors of mean, variance and fourth moment at 2^20 samples: 0.002, 0.0055, 0.15; five of them.
  EXPECT_NEAR(sum / n, 0, 0.01);
  EXPECT_NEAR(squares / n, 4, 0.03);
  EXPECT_NEAR(fourth / n, 48, 0.8);
}

TEST(FillNormal, IsAFunctionOfThePosition) {
  std::vector<float> all(1000), part(100);
  fill_normal(1, 2, 0, 1, all);
  for (const size_t begin : {size_t{0}, size_t{1}, size_t{7}, size_t{513}, size_t{900}}) {
    fill_normal(1, 2, begin, 1, part);
    for (size_t i = 0; i < part.size(); ++i) ASSERT_EQ(part[i], all[begin + i]) << begin << " " << i;
  }
  fill_normal(1, 3, 0, 1, part);
  EXPECT_NE(part[0], all[0]);
}

TEST(SynthShapes, BenchmarkShapeHasElevenHundredMillionParameters) {
  int64_t n = 0;
  for (const SynthTensor& t : synth_tensors(synth_config("llama", "1b"))) {
    int64_t size = 1;
    for (const int64_t d : t.shape) size *= d;
    n += size;
  }
  // Embedding and head, then per layer q, o, k, v, gate, up, down and two norms, and the last norm.
  EXPECT_EQ(n, 2 * 32000 * 2048 + 16 * (2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048) + 2048);
}

TEST(SynthShapes, UnknownShapeNamesTheKnownOnes) {
  try {
    synth_config("llama", "2b");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("qwen3 0.6b"));
  }
}

TEST_F(SynthTest, WritesEveryTinyShapeWithItsTokenizer) {
  ThreadPool pool(2);
  for (const SynthShape& shape : synth_shapes()) {
    if (shape.params != "tiny") continue;
    const SynthReport report = synth(dir_, {.arch = shape.arch, .params = shape.params}, Overwrite::kYes, pool);
    const io::SafetensorsFile file = io::SafetensorsFile::open(dir_ + "/model.safetensors");
    EXPECT_EQ(file.entries().size(), report.tensors) << shape.arch;
    EXPECT_EQ(parse_json_file(dir_ + "/config.json").find("model_type")->as_string(), shape.arch);
  }
  const auto tokenizer = text::load_tokenizer_json(dir_);
  EXPECT_EQ(tokenizer->encode("Aé"), (std::vector<text::TokenId>{4 + 'A', 4 + 0xC3, 4 + 0xA9}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("any text: 漢字 \x01\n")), "any text: 漢字 \x01\n");
}

TEST_F(SynthTest, BytesDependOnSeedAndNotOnThreads) {
  const auto hash = [&](int threads, uint64_t seed) {
    ThreadPool pool(threads);
    synth(dir_, {.seed = seed}, Overwrite::kYes, pool);
    const auto files = write_manifest(dir_, Json::object());
    for (const ManifestFile& f : files)
      if (f.name == "model.safetensors") return f.sha256;
    return std::string();
  };
  EXPECT_EQ(hash(1, 5), hash(3, 5));
  EXPECT_NE(hash(1, 5), hash(1, 6));
}

TEST_F(SynthTest, ManifestFindsAFlippedBitAndAMissingFile) {
  ThreadPool pool(1);
  synth(dir_, {}, Overwrite::kYes, pool);
  write_manifest(dir_, Json::object());
  EXPECT_TRUE(verify_manifest(dir_).empty());
  std::string bytes = read_file(dir_ + "/model.safetensors", 1 << 26);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file_atomic(dir_ + "/model.safetensors", bytes);
  std::filesystem::remove(dir_ + "/config.json");
  EXPECT_THAT(
      verify_manifest(dir_),
      ::testing::ElementsAre("config.json: missing", ::testing::HasSubstr("model.safetensors: expected sha256")));
}

TEST_F(SynthTest, RefusesAnExistingFolderAndStopsWhenCancelled) {
  ThreadPool pool(1);
  CancelToken cancel;
  cancel.cancel(2);
  EXPECT_THROW(synth(dir_, {}, Overwrite::kNo, pool, &cancel), Error);
  EXPECT_FALSE(std::filesystem::exists(dir_));
  synth(dir_, {}, Overwrite::kNo, pool);
  EXPECT_THROW(synth(dir_, {}, Overwrite::kNo, pool), Error);
}

}  // namespace
}  // namespace fettle::compress
