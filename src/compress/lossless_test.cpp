#include "compress/lossless.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "compress/convert.h"
#include "compress/test_dir.h"
#include "io/lossless_compare.h"
#include "io/safetensors.h"
#include "models/model.h"

namespace fettle::compress {
namespace {

const std::string kMini = std::string(FETTLE_TEST_DATA) + "/vectors/dfloat11/mini_llama";
const std::string kOriginal = kMini + "/original";

LosslessReport pack(const std::string& model, const std::string& out, LosslessOptions options = {}) {
  ThreadPool pool(2);
  return pack_lossless(model, out, options, pool);
}

std::vector<std::string> bit_differences(const std::string& a, const std::string& b) {
  ThreadPool pool(2);
  return io::compare_bits(io::resolve_model(a), io::resolve_model(b), pool).differences;
}

TEST(Lossless, WritesUpstreamsFileTensorByTensor) {
  testing::TempDir dir;
  pack(kOriginal, (dir / "df11"));
  const auto want = io::SafetensorsFile::open(kMini + "/df11/model.safetensors");
  const auto got = io::SafetensorsFile::open((dir / "df11") + "/model.safetensors");
  ASSERT_EQ(got.entries().size(), want.entries().size());
  for (const io::TensorEntry& e : want.entries()) {
    const Tensor a = want.tensor(e.name), b = got.tensor(e.name);
    EXPECT_EQ(b.describe(), a.describe()) << e.name;
    EXPECT_TRUE(std::ranges::equal(a.bytes(), b.bytes())) << e.name;
  }
  const Json section = parse_json(read_file((dir / "df11") + "/config.json", 1 << 20), "config.json");
  const Json upstream = parse_json(read_file(kMini + "/df11/config.json", 1 << 20), "config.json");
  for (const char* key : {"version", "threads_per_block", "bytes_per_thread"})
    EXPECT_EQ(section.find("dfloat11_config")->find(key)->dump(), upstream.find("dfloat11_config")->find(key)->dump());
  for (const auto& [regex, list] : upstream.find("dfloat11_config")->find("pattern_dict")->as_object()) {
    const Json* mine = section.find("dfloat11_config")->find("pattern_dict")->find(regex);
    ASSERT_NE(mine, nullptr) << regex;
    EXPECT_EQ(mine->dump(), list.dump()) << regex;
  }
}

TEST(Lossless, EveryContainerHoldsTheSameBits) {
  testing::TempDir dir;
  EXPECT_THAT(bit_differences(kOriginal, kMini + "/df11"), ::testing::IsEmpty());
  for (const LosslessMethod method : {LosslessMethod::kDf11, LosslessMethod::kFx3})
    for (const df11::CodeMode code : {df11::CodeMode::kUpstream, df11::CodeMode::kFast})
      for (const Df11Unit unit : {Df11Unit::kBlock, Df11Unit::kMatrix}) {
        const std::string out = (dir / "packed");
        const LosslessReport r = pack(kOriginal, out, {method, code, unit, Overwrite::kYes});
        EXPECT_LT(r.bytes_after, r.bytes_before);
        EXPECT_THAT(bit_differences(kOriginal, out), ::testing::IsEmpty());
        ThreadPool pool(2);
        convert(out, (dir / "back"), {.overwrite = Overwrite::kYes}, pool);
        EXPECT_THAT(bit_differences(kOriginal, (dir / "back")), ::testing::IsEmpty());
      }
}

// A copy of the model in which one tensor's bytes were changed.
std::string changed_copy(const testing::TempDir& dir, const std::string& tensor, size_t byte, uint8_t flip) {
  const std::string out = (dir / "changed");
  std::filesystem::create_directories(out);
  std::filesystem::copy(kOriginal + "/config.json", out + "/config.json",
                        std::filesystem::copy_options::overwrite_existing);
  const auto file = io::SafetensorsFile::open(kOriginal + "/model.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const io::TensorEntry& e : file.entries()) {
    Tensor t = file.tensor(e.name).copy();
    if (e.name == tensor) const_cast<std::byte*>(t.bytes().data())[byte] ^= std::byte{flip};
    tensors.emplace_back(e.name, std::move(t));
  }
  io::write_safetensors(out + "/model.safetensors", tensors);
  return out;
}

TEST(Lossless, OneFlippedBitIsFound) {
  testing::TempDir dir;
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const auto differences = bit_differences(kMini + "/df11", changed_copy(dir, name, 101, 1));
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_THAT(differences[0], ::testing::HasSubstr(name + ": 1 elements differ, the first one is element 50"));
}

TEST(Lossless, MissingAndExtraTensorsAreFound) {
  testing::TempDir dir;
  const std::string a = (dir / "a"), b = (dir / "b");
  for (const std::string& d : {a, b}) {
    std::filesystem::create_directories(d);
    std::filesystem::copy(kOriginal + "/config.json", d + "/config.json");
  }
  io::write_safetensors(a + "/model.safetensors",
                        {{"x", Tensor::zeros(DType::kF32, {2})}, {"y", Tensor::zeros(DType::kF32, {2})}});
  io::write_safetensors(b + "/model.safetensors",
                        {{"y", Tensor::zeros(DType::kF32, {1, 2})}, {"z", Tensor::zeros(DType::kF32, {2})}});
  EXPECT_THAT(bit_differences(a, b), ::testing::ElementsAre(::testing::StartsWith("x: only in"),
                                                            ::testing::StartsWith("y: F32 [2] against F32 [1, 2]"),
                                                            ::testing::StartsWith("z: only in")));
}

TEST(Lossless, WhatDf11CannotHoldStaysAndIsReported) {
  testing::TempDir dir;
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  const std::string model = changed_copy(dir, name, 1, 0x40);  // exponent 112..127 + 128: at least 240
  for (const LosslessMethod method : {LosslessMethod::kDf11, LosslessMethod::kFx3}) {
    const std::string out = (dir / "packed");
    const LosslessReport r = pack(model, out, {.method = method, .overwrite = Overwrite::kYes});
    EXPECT_THAT(bit_differences(model, out), ::testing::IsEmpty());
    for (const LosslessUnit& u : r.units) {
      const bool raw = method == LosslessMethod::kDf11 && u.name == "model.layers.0";
      EXPECT_EQ(!u.reason.empty(), raw) << u.name << ": " << u.reason;
    }
  }
}

TEST(Lossless, PackedInputIsRefused) {
  testing::TempDir dir;
  EXPECT_THROW(pack(kMini + "/df11", (dir / "x")), Error);
}

struct Logits {
  std::vector<std::vector<uint32_t>> bits;
};

// Logits of a prompt in chunks and of decode steps, for two sequences.
void run(const std::string& model, models::Residency residency, int threads, size_t chunk, Logits* to) {
  ThreadPool pool(threads);
  models::LoadOptions options;
  options.residency = residency;
  const auto m = models::Model::load(model, options, pool);
  kv::KvCache cache(m->kv_layout(DType::kF32), size_t{16} << 20);
  const auto scratch = models::make_scratch();
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 23; ++i) tokens.push_back(i * 37 % static_cast<int32_t>(m->config().vocab_size));
  const kv::SeqId a = cache.create(), b = cache.create();
  Logits& out = *to;
  const auto keep = [&](MatView<const float> logits) {
    std::vector<uint32_t> bits(logits.rows * logits.cols);
    for (size_t r = 0; r < logits.rows; ++r) std::memcpy(bits.data() + r * logits.cols, logits.row(r), 4 * logits.cols);
    out.bits.push_back(std::move(bits));
  };
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const std::span<const int32_t> part = std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at));
    for (const kv::SeqId s : {a, b}) ASSERT_TRUE(cache.reserve(s, part.size()));
    const models::SeqTokens batch[] = {{a, part}, {b, part}};
    keep(m->forward(batch, models::LogitRows::kAll, cache, *scratch, pool));
  }
}

Logits logits_of(const std::string& model, models::Residency residency, int threads, size_t chunk) {
  Logits out;
  run(model, residency, threads, chunk, &out);
  return out;
}

TEST(Lossless, LogitsHaveTheSameBitsInEveryResidency) {
  testing::TempDir dir;
  pack(kOriginal, (dir / "fx3"), {.method = LosslessMethod::kFx3});
  for (const size_t chunk : {1, 5, 23})
    for (const int threads : {1, 2}) {
      const Logits want = logits_of(kOriginal, models::Residency::kBf16, 1, chunk);
      for (const std::string& model : {kOriginal, kMini + "/df11", (dir / "fx3")})
        for (const models::Residency r : {models::Residency::kAuto, models::Residency::kBf16, models::Residency::kFx3})
          EXPECT_EQ(logits_of(model, r, threads, chunk).bits, want.bits)
              << model << " residency " << static_cast<int>(r) << " chunk " << chunk << " threads " << threads;
    }
}

}  // namespace
}  // namespace fettle::compress
