#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>
#include <string>

#include "base/cpu.h"
#include "kernels/attention_test_util.h"
#include "kernels/roofline.h"

// Attention on one thread as a fraction of what the machine can do (kernels/roofline.h): multiply-add peak for prefill,
// read bandwidth for decode. Lines: prefill/<dtype>/<head_dim>/<tokens>, decode/<dtype>/<head_dim>/group<r>/<context>;
// a group is the query heads per KV head. FETTLE_ISA sets the level.
namespace fettle::kernels {
namespace {

// One thread: kernels are timed in CPU time, so that other load on the machine matters less.
const Roofline& roofline() {
  static const Roofline r = [] {
    ThreadPool one(1);
    return measure_roofline(one, active_isa());
  }();
  return r;
}

struct Bench {
  test::PagedKv kv;
  AttnParams params;
  ThreadPool pool{1};
  AttnScratch scratch;
  std::vector<float> q, out;
  AttnSequence sequence;

  Bench(DType dtype, size_t dim, size_t kv_heads, size_t group, size_t keys, size_t rows)
      : kv({dtype, 64, dim, dim}, kv_heads, keys), q(rows * kv_heads * group * dim), out(q.size()) {
    Random random(1);
    for (float& x : q) x = random.normal();
    std::vector<float> k = test::normals(random, 64 * kv_heads * dim), v = test::normals(random, 64 * kv_heads * dim);
    for (size_t j = 0; j < keys; ++j) kv.store(j, &k[j % 64 * kv_heads * dim], &v[j % 64 * kv_heads * dim]);
    params.heads = kv_heads * group;
    params.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    sequence.kv = kv.view();
    sequence.n_rows = rows;
    sequence.first_position = static_cast<uint32_t>(keys - rows);
  }
  void run() {
    const size_t rows = sequence.n_rows, cols = q.size() / rows;
    attention({&sequence, 1}, params, {q.data(), rows, cols}, pool, scratch, {out.data(), rows, cols});
  }
};

const char* dtype_label(DType dtype) { return dtype == DType::kF32 ? "f32" : dtype == DType::kBF16 ? "bf16" : "i8"; }

void prefill(benchmark::State& state, DType dtype, size_t dim, size_t tokens) {
  Bench b(dtype, dim, 2, 4, tokens, tokens);
  for (auto _ : state) b.run();
  const double flops = 2.0 * static_cast<double>(tokens) * static_cast<double>(tokens) * static_cast<double>(dim) * 8;
  using benchmark::Counter;
  state.counters["flop/s"] = Counter(flops, Counter::kIsIterationInvariantRate);
  state.counters["of_fma_peak"] = Counter(flops / (1e9 * roofline().f32_gflops), Counter::kIsIterationInvariantRate);
}

void decode(benchmark::State& state, DType dtype, size_t dim, size_t group, size_t keys) {
  Bench b(dtype, dim, 8, group, keys, 1);
  for (auto _ : state) b.run();
  const double bytes = static_cast<double>(keys / 64 * 8 * b.kv.view().layout.head_bytes());
  using benchmark::Counter;
  state.counters["bytes/s"] = Counter(bytes, Counter::kIsIterationInvariantRate);
  state.counters["of_read"] = Counter(bytes / (1e9 * roofline().read_gbs), Counter::kIsIterationInvariantRate);
}

const bool kRegistered = [] {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    const std::string label = dtype_label(dtype);
    for (size_t dim : {64, 128})
      benchmark::RegisterBenchmark(("prefill/" + label + "/" + std::to_string(dim) + "/1024").c_str(), prefill, dtype,
                                   dim, size_t{1024});
    for (size_t group : {1, 4, 8})
      benchmark::RegisterBenchmark(("decode/" + label + "/128/group" + std::to_string(group) + "/16384").c_str(),
                                   decode, dtype, size_t{128}, group, size_t{16384});
  }
  return true;
}();

}  // namespace
}  // namespace fettle::kernels
