// Loading, encoding and reference decoding of every format: weights and bytes per second. The floor of repacking is one
// read and one write of the data: the memcpy line.
#include <benchmark/benchmark.h>

#include <cstring>

#include "base/random.h"
#include "base/thread_pool.h"
#include "tensor/df11/unit.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/gguf_blocks.h"
#include "tensor/weight.h"

namespace fettle::formats {
namespace {

constexpr size_t kRows = 2048, kCols = 8192;

std::vector<float> weights() {
  Random random(1);
  std::vector<float> x(kRows * kCols);
  for (float& v : x) v = 0.02f * (static_cast<float>(random.bits() >> 8) * 0x1p-23f - 1.0f);
  return x;
}

const std::vector<float>& shared_weights() {
  static const std::vector<float> x = weights();
  return x;
}

void report(benchmark::State& state, size_t bytes) {
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kRows * kCols));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

void BM_Memcpy(benchmark::State& state) {
  std::vector<std::byte> from(kRows * kCols / 2), to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  report(state, 2 * from.size());
}

void BM_FromBlocks(benchmark::State& state, const GgufBlock& block) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const auto bytes = quantise_gguf(block.ggml_type, {shared_weights().data(), kRows, kCols}, &pool);
  for (auto _ : state) benchmark::DoNotOptimize(from_gguf_blocks(block.ggml_type, kRows, kCols, bytes, &pool));
  report(state, 2 * bytes.size());
}

void BM_Encode(benchmark::State& state, const FormatInfo& info) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  size_t bytes = 0;
  for (auto _ : state) bytes = encode(info, {shared_weights().data(), kRows, kCols}, {}, pool).bytes();
  report(state, bytes + 4 * kRows * kCols);
}

void BM_Decode(benchmark::State& state, const FormatInfo& info) {
  const PackedWeight w = info.encode({shared_weights().data(), kRows / 8, kCols}, {});
  std::vector<float> row(kCols);
  for (auto _ : state)
    for (int64_t r = 0; r < w.rows; ++r) decode_row(w, r, row);
  state.SetItemsProcessed(state.iterations() * w.rows * w.cols);
}

// DFloat11 units of gaussian weights, two bytes per weight.
std::vector<uint16_t> gauss_bf16() {
  Random random(1);
  std::vector<uint16_t> w(kRows * kCols);
  for (uint16_t& u : w) u = f32_to_bf16(0.02f * random.normal());
  return w;
}

void BM_Df11Encode(benchmark::State& state, df11::CodeMode mode) {
  const std::vector<uint16_t> w = gauss_bf16();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(w));
  for (auto _ : state) benchmark::DoNotOptimize(df11::encode_unit({&bytes, 1}, mode, nullptr));
  report(state, 2 * w.size());
}

void BM_Df11Decode(benchmark::State& state, df11::CodeMode mode) {
  const std::vector<uint16_t> w = gauss_bf16();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(w));
  const df11::Encoded e = df11::encode_unit({&bytes, 1}, mode, nullptr);
  const df11::Decoder decoder(e.unit.view(), "bench", "unit");
  std::vector<uint16_t> out(w.size());
  for (auto _ : state) {
    decoder.decode(0, out.size(), out.data(), nullptr);
    benchmark::ClobberMemory();
  }
  report(state, 2 * w.size());
}

void register_all() {
  for (const auto& [name, mode] : {std::pair("upstream", df11::CodeMode::kUpstream), {"fast", df11::CodeMode::kFast}}) {
    benchmark::RegisterBenchmark((std::string("df11_encode/") + name).c_str(), BM_Df11Encode, mode)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark((std::string("df11_decode/") + name).c_str(), BM_Df11Decode, mode)
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::RegisterBenchmark("memcpy", BM_Memcpy)->Unit(benchmark::kMillisecond);
  for (const GgufBlock& block : gguf_blocks())
    benchmark::RegisterBenchmark(("from_gguf/" + std::string(block.name)).c_str(), BM_FromBlocks, block)
        ->Arg(1)
        ->Arg(2)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  for (const FormatInfo& info : all_formats()) {
    benchmark::RegisterBenchmark(("encode/" + std::string(info.name)).c_str(), BM_Encode, info)
        ->Arg(1)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("decode_row/" + std::string(info.name)).c_str(), BM_Decode, info)
        ->Unit(benchmark::kMillisecond);
  }
}

const bool kRegistered = (register_all(), true);

}  // namespace
}  // namespace fettle::formats
