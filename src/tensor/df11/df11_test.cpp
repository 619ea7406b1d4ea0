#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "base/error.h"
#include "base/random.h"
#include "tensor/df11/gpu_model.h"
#include "tensor/df11/unit.h"
#include "tensor/formats/codecs.h"

namespace fettle::df11 {
namespace {

std::span<const std::byte> bytes_of(const std::vector<uint16_t>& w) { return std::as_bytes(std::span(w)); }

Encoded encode(const std::vector<uint16_t>& w, CodeMode mode) {
  const std::span<const std::byte> m = bytes_of(w);
  return encode_unit({&m, 1}, mode, nullptr);
}

std::vector<uint16_t> decode(const Unit& u, size_t begin, size_t end, int threads = 1) {
  ThreadPool pool(threads);
  std::vector<uint16_t> out(end - begin);
  Decoder(u.view(), "file", "unit").decode(begin, end, out.data(), &pool);
  return out;
}

// Normal values with deviation 2^scale.
std::vector<uint16_t> gauss(size_t n, uint64_t seed, int scale = -6) {
  Random r(seed);
  std::vector<uint16_t> w(n);
  for (uint16_t& u : w) u = formats::f32_to_bf16(std::ldexp(static_cast<float>(r.normal()), scale));
  return w;
}

std::vector<uint16_t> from_exponents(const std::vector<std::pair<int, size_t>>& runs, uint64_t seed) {
  Random r(seed);
  std::vector<uint16_t> w;
  for (const auto& [exponent, count] : runs)
    for (size_t i = 0; i < count; ++i)
      w.push_back(static_cast<uint16_t>(r.below(2) << 15 | static_cast<uint64_t>(exponent) << 7 | r.below(128)));
  for (size_t i = w.size(); i > 1; --i) std::swap(w[i - 1], w[static_cast<size_t>(r.below(i))]);
  return w;
}

struct Case {
  const char* name;
  std::vector<uint16_t> weights;
};

std::vector<Case> cases() {
  std::vector<std::pair<int, size_t>> fibonacci, uniform;
  size_t a = 1, b = 1;
  for (int e = 0; e < 24; ++e) {
    fibonacci.emplace_back(100 + e, a);
    std::swap(a, b);
    b += a;
  }
  for (int e = 0; e < 240; ++e) uniform.emplace_back(e, 400);
  std::vector<uint16_t> zeros = gauss(20000, 5);
  for (size_t i = 0; i < zeros.size(); i += 3) zeros[i] = static_cast<uint16_t>(i % 2 << 15 | (i % 7 == 0 ? 5 : 0));
  return {{"gauss", gauss(150001, 1)},
          {"one weight", gauss(1, 2)},
          {"seven", gauss(7, 3)},
          {"one exponent", from_exponents({{120, 40000}}, 4)},
          {"two exponents", from_exponents({{0, 30000}, {239, 30000}}, 5)},
          {"three exponents", from_exponents({{119, 3}, {120, 40000}, {121, 1}}, 6)},
          {"fibonacci", from_exponents(fibonacci, 7)},
          {"uniform", from_exponents(uniform, 8)},
          {"zeros and denormals", zeros}};
}

void expect_equal_decoders(const Case& c, const Encoded& e) {
  const size_t n = c.weights.size();
  EXPECT_EQ(decode(e.unit, 0, n), c.weights);
  EXPECT_EQ(decode(e.unit, 0, n, 3), c.weights);
  const test::GpuModel gpu(e.unit.view());
  const test::GpuResult r = gpu.run();
  EXPECT_EQ(r.weights, c.weights) << "two-phase kernel";
  for (size_t b = 0; b + 1 < r.block_counts.size(); ++b)
    EXPECT_EQ(r.block_counts[b], gpu.position(b + 1) - gpu.position(b)) << "block " << b;
}

TEST(Df11, EveryDecoderReturnsTheWeights) {
  for (const Case& c : cases())
    for (const CodeMode mode : {CodeMode::kUpstream, CodeMode::kFast}) {
      SCOPED_TRACE(c.name);
      expect_equal_decoders(c, encode(c.weights, mode));
    }
}

TEST(Df11, AnyRangeDecodesAlone) {
  const std::vector<uint16_t> w = gauss(300000, 9);
  const Unit u = encode(w, CodeMode::kUpstream).unit;
  Random r(10);
  for (int i = 0; i < 200; ++i) {
    const auto begin = static_cast<size_t>(r.below(w.size()));
    const size_t end = begin + static_cast<size_t>(r.below(std::min<uint64_t>(w.size() - begin, 40000) + 1));
    const std::vector<uint16_t> got = decode(u, begin, end);
    ASSERT_TRUE(std::equal(got.begin(), got.end(), w.begin() + static_cast<std::ptrdiff_t>(begin))) << begin;
  }
}

TEST(Df11, UpstreamCodesAreCompleteWithTheEndSymbol) {
  for (const Case& c : cases()) {
    const std::span<const std::byte> m = bytes_of(c.weights);
    double kraft = 0;
    for (const Code& code : upstream_code(exponent_histogram({&m, 1}, nullptr)).codes)
      kraft += std::ldexp(1.0, -code.length);
    EXPECT_EQ(kraft, 1.0) << c.name;
  }
}

TEST(Df11, EveryTableEntryLeadsToACode) {
  for (const Case& c : cases())
    for (const CodeMode mode : {CodeMode::kUpstream, CodeMode::kFast}) {
      const std::vector<uint8_t> luts = encode(c.weights, mode).unit.luts;
      const size_t pages = luts.size() / 256 - 1;
      for (size_t i = 0; i < pages * 256; ++i) {
        if (luts[i] >= kFirstPointer) {
          EXPECT_LT(256u - luts[i], pages) << c.name << " entry " << i;
        } else {
          EXPECT_GT(luts[pages * 256 + luts[i]], 0) << c.name << " entry " << i;
        }
      }
    }
}

// Mean code length of the best code of at most `limit` bits, by trying all length vectors of a few symbols.
double best_mean(const std::vector<uint64_t>& counts, int limit) {
  double best = 1e300;
  std::vector<int> lengths(counts.size());
  const std::function<void(size_t, double)> descend = [&](size_t i, double kraft) {
    if (kraft > 1) return;
    if (i == counts.size()) {
      double bits = 0;
      for (size_t s = 0; s < counts.size(); ++s) bits += static_cast<double>(counts[s]) * lengths[s];
      best = std::min(best, bits);
      return;
    }
    for (lengths[i] = 1; lengths[i] <= limit; ++lengths[i]) descend(i + 1, kraft + std::ldexp(1.0, -lengths[i]));
  };
  descend(0, 0);
  return best;
}

TEST(Df11, LimitedCodesAreOptimal) {
  Random r(11);
  for (int trial = 0; trial < 30; ++trial) {
    Histogram counts{};
    std::vector<uint64_t> used;
    for (size_t s = 0; s < 6; ++s) used.push_back(counts[100 + s] = 1 + r.below(uint64_t{1} << r.below(12)));
    double bits = 0;
    for (const Code& c : limited_code(counts, 4).codes) {
      EXPECT_LE(c.length, 4);
      bits += static_cast<double>(counts[static_cast<size_t>(c.symbol)]) * c.length;
    }
    EXPECT_EQ(bits, best_mean(used, 4));
  }
}

TEST(Df11, SizeFollowsTheFormula) {
  const std::vector<uint16_t> w = gauss(size_t{1} << 21, 12);
  const Encoded e = encode(w, CodeMode::kUpstream);
  const std::span<const std::byte> m = bytes_of(w);
  const Histogram counts = exponent_histogram({&m, 1}, nullptr);
  double bits = 0;
  for (const Code& c : e.book.codes)
    if (c.symbol != kEnd) bits += static_cast<double>(counts[static_cast<size_t>(c.symbol)]) * c.length;
  const double n = static_cast<double>(w.size()), mean = bits / n;
  const double got = 8.0 * static_cast<double>(e.unit.bytes()) / n;
  // The formula leaves out the tables and the last block's padding: under 2 KiB of 2.8 MB.
  EXPECT_NEAR(got, 8 + mean * (1 + 5.0 / 64 + 4.0 / 4096), 1e-3 * got);
  // Huffman codes of gaussian exponents have 2.571 to 2.591 bits depending on the deviation (entropy 2.543).
  EXPECT_GT(got / 16, 0.673);
  EXPECT_LT(got / 16, 0.676);
  // Codes of at most 11 bits cost 0.007 bits more than unlimited ones, 0.065 % of 10.8.
  const Encoded fast = encode(w, CodeMode::kFast);
  EXPECT_NEAR(static_cast<double>(fast.unit.bytes()), static_cast<double>(e.unit.bytes()), 0.002 * got * n / 8);
}

TEST(Df11, ReasonsToStoreAUnitAsItIs) {
  std::vector<uint16_t> w = gauss(50000, 13);
  EXPECT_EQ(encode(w, CodeMode::kUpstream).refusal, "");
  w[77] = 0x7FC1;
  EXPECT_THAT(encode(w, CodeMode::kUpstream).refusal, testing::HasSubstr("exponent 255"));
  w[77] = static_cast<uint16_t>(240 << 7);
  EXPECT_THAT(encode(w, CodeMode::kFast).refusal, testing::HasSubstr("exponent 240"));
  EXPECT_THAT(encode(gauss(100, 14), CodeMode::kUpstream).refusal, testing::HasSubstr("instead of 200"));
  std::vector<std::pair<int, size_t>> uniform;
  for (int e = 0; e < 240; ++e) uniform.emplace_back(e, 400);
  EXPECT_THAT(encode(from_exponents(uniform, 15), CodeMode::kUpstream).refusal, testing::HasSubstr("instead of"));
}

TEST(Df11, ShortCodesStayWithinTheKernelsSharedMemory) {
  const std::vector<uint16_t> w = from_exponents({{120, 90000}, {121, 2000}}, 16);
  for (const CodeMode mode : {CodeMode::kUpstream, CodeMode::kFast}) {
    const Encoded e = encode(w, mode);
    EXPECT_EQ(e.refusal, "");
    EXPECT_THAT(e.note, testing::HasSubstr("shared memory"));
    for (const Code& c : e.book.codes) EXPECT_GE(c.length, 2);
    const test::GpuModel gpu(e.unit.view());
    EXPECT_LE(gpu.position(1), kMaxBlockWeights);
  }
}

// Runs f on a changed copy and expects a refusal that names the tensor.
void expect_refused(const Unit& good, const char* tensor, const std::function<void(Unit&)>& change) {
  Unit u = good;
  change(u);
  try {
    decode(u, 0, u.sign_mantissa.size());
    ADD_FAILURE() << tensor << ": accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInput);
    EXPECT_THAT(e.what(), testing::HasSubstr(std::string("tensor \"unit.") + tensor + "\"")) << e.what();
  }
}

TEST(Df11, MalformedUnitsAreRefusedByName) {
  const Unit u = encode(gauss(100000, 17), CodeMode::kUpstream).unit;
  const size_t pages = u.luts.size() / 256 - 1;
  expect_refused(u, "luts", [](Unit& b) { b.luts.pop_back(); });
  expect_refused(u, "luts", [](Unit& b) { b.luts.resize(256); });
  expect_refused(u, "luts", [](Unit& b) { b.luts.resize(19 * 256, 0); });
  expect_refused(u, "luts", [&](Unit& b) { b.luts[3] = static_cast<uint8_t>(256 - pages); });
  expect_refused(u, "luts", [&](Unit& b) { b.luts[pages * 256 + b.luts[40]] = 0; });
  expect_refused(u, "luts", [&](Unit& b) { b.luts[pages * 256 + 7] = 33; });
  expect_refused(u, "gaps", [](Unit& b) { b.gaps.pop_back(); });
  expect_refused(u, "output_positions", [](Unit& b) { b.output_positions.resize(b.output_positions.size() + 4); });
  expect_refused(u, "output_positions", [](Unit& b) { b.output_positions[0] = 1; });
  expect_refused(u, "output_positions", [](Unit& b) { std::swap(b.output_positions[5], b.output_positions[9]); });
  expect_refused(u, "gaps", [](Unit& b) { ++b.output_positions[4]; });
  expect_refused(u, "encoded_exponent", [](Unit& b) { b.encoded_exponent.resize(b.encoded_exponent.size() - 40); });
  expect_refused(u, "encoded_exponent", [](Unit& b) {
    b.encoded_exponent.clear();
    b.gaps.clear();
    b.output_positions.resize(4);
  });
  // A page that points at itself has no symbol.
  Unit loop = u;
  loop.luts.insert(loop.luts.begin() + 256, 256, 255);
  for (size_t i = 0; i < 256; ++i) loop.luts[i] = 255;
  expect_refused(loop, "encoded_exponent", [](Unit&) {});
}

TEST(Df11, RandomDamageNeverEscapesAsAnythingButARefusal) {
  const Unit good = encode(gauss(60000, 18), CodeMode::kUpstream).unit;
  Random r(19);
  for (int trial = 0; trial < 400; ++trial) {
    Unit u = good;
    std::vector<uint8_t>* parts[] = {&u.luts, &u.encoded_exponent, &u.output_positions, &u.gaps};
    for (uint64_t i = 0, n = 1 + r.below(4); i < n; ++i) {
      std::vector<uint8_t>& part = *parts[r.below(4)];
      part[static_cast<size_t>(r.below(part.size()))] = static_cast<uint8_t>(r.below(256));
    }
    try {
      decode(u, 0, u.sign_mantissa.size());
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
    }
  }
}

}  // namespace
}  // namespace fettle::df11
