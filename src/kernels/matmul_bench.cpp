#include <benchmark/benchmark.h>
#include <time.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "base/cpu.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/matmul_driver.h"
#include "kernels/matmul_test_util.h"
#include "kernels/roofline.h"
#include "tensor/formats/fx3.h"

// matmul/<format>/<mode>/<N>x<K>/M<m>: the weights of one run are cycled through a set larger than the last-level
// cache, so that M=1 reads memory. `read_fraction` = weight bytes per second over the measured read bandwidth,
// `peak_fraction` = operations per second over the peak of the instruction the kernel uses.
// One thread counts its CPU time, so that other load on the machine is left out; more threads count wall time.
// FETTLE_BENCH_THREADS sets the threads (default: all cores), FETTLE_ISA the level.
namespace fettle::kernels {
namespace {

int bench_threads() {
  const char* n = std::getenv("FETTLE_BENCH_THREADS");
  return n ? std::max(1, std::atoi(n)) : available_cpus();
}
ThreadPool& pool() {
  static ThreadPool p(bench_threads());
  return p;
}
double seconds_now() {
  timespec t{};
  clock_gettime(pool().size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
const Roofline& roofline() {
  static const Roofline r = measure_roofline(pool(), active_isa(), {.repetitions = 9, .cpu_time = pool().size() == 1});
  return r;
}

struct Shape {
  int64_t n, k;
};

// Enough copies of one prepared weight to exceed `kSetBytes`.
struct WeightSet {
  std::vector<PreparedWeight> weights;
  // FX3 exceptions depend on the values: gaussian, and the same for the BF16 weights it is compared with.
  static PackedWeight make(const test::WeightCase& c) {
    if (c.format != Format::kFx3 && c.format != Format::kBF16) return test::random_weight(c, 1);
    Random r(1);
    Tensor t = Tensor::empty(DType::kBF16, {c.rows, c.cols});
    for (int64_t i = 0; i < t.numel(); ++i) t.mutable_data<uint16_t>()[i] = formats::f32_to_bf16(0.02f * r.normal());
    return c.format == Format::kFx3 ? formats::fx3_from_bf16(t, &pool()) : dense_weight(t);
  }
  explicit WeightSet(const test::WeightCase& c, const InputTransform& input = {}) {
    constexpr size_t kSetBytes = size_t{160} << 20;
    PackedWeight w = make(c);
    w.input = input;
    do {
      if (c.format == Format::kFx3) {
        PackedWeight copy = w;
        copy.codes = w.codes.copy();
        weights.push_back(prepare(copy, pool()));
        continue;
      }
      // Dense weights are not copied by prepare.
      weights.push_back(
          prepare(format_info(c.format).kind == CodeKind::kDense ? dense_weight(w.codes.copy()) : w, pool()));
    } while (weights.size() * weights[0].bytes() < kSetBytes);
  }
};

double peak_of(Format format, ActMode mode) {
  const Roofline& r = roofline();
  const CodeKind kind = format_info(format).kind;
  if (kind == CodeKind::kDense || kind == CodeKind::kBF16Planes)
    return (format == Format::kBF16 || format == Format::kFx3) &&
                   dense_kernels(active_isa()).act_form(DType::kBF16) == DenseForm::kBF16
               ? r.bf16_gflops
               : r.f32_gflops;
  if (kind == CodeKind::kE4M3) return r.f32_gflops;
  return mode == ActMode::kA8 ? r.int8_gops : r.int16_gops;
}

void run(benchmark::State& state, const test::WeightCase& c, ActMode mode, size_t m) {
  static std::string cached;
  static std::unique_ptr<WeightSet> set;
  const std::string key = test::describe(c);
  if (key != cached) {
    set.reset();
    set = std::make_unique<WeightSet>(c);
    cached = key;
  }
  const auto n = static_cast<size_t>(c.rows), k = static_cast<size_t>(c.cols);
  const std::vector<float> x = test::random_input(m, k, 2);
  std::vector<float> y(m * n);
  MatmulScratch scratch;
  double best = 1e9;
  size_t next = 0;
  for (auto _ : state) {
    const double start = seconds_now();
    matmul({x.data(), m, k}, set->weights[next], mode, pool(), scratch, {y.data(), m, n});
    const double seconds = seconds_now() - start;
    best = std::min(best, seconds);
    state.SetIterationTime(seconds);
    next = (next + 1) % set->weights.size();
  }
  const double gbs = static_cast<double>(set->weights[0].bytes()) / best * 1e-9;
  const double gops = 2.0 * static_cast<double>(m * n * k) / best * 1e-9;
  state.counters["best_us"] = best * 1e6;
  state.counters["GB/s"] = gbs;
  state.counters["read_fraction"] = gbs / roofline().read_gbs;
  state.counters["GOP/s"] = gops;
  state.counters["peak_fraction"] = gops / peak_of(c.format, mode);
}

// FX3 and BF16 in turn, so that both see the same load of the machine.
void run_fx3_beside_bf16(benchmark::State& state, Shape shape) {
  const auto n = static_cast<size_t>(shape.n), k = static_cast<size_t>(shape.k);
  const WeightSet sets[] = {WeightSet({Format::kFx3, shape.n, shape.k, shape.k, DType::kF32}),
                            WeightSet({Format::kBF16, shape.n, shape.k, shape.k, DType::kF32})};
  const std::vector<float> x = test::random_input(1, k, 2);
  std::vector<float> y(n);
  MatmulScratch scratch;
  std::vector<double> times[2];
  size_t next = 0;
  for (auto _ : state) {
    for (size_t i = 0; i < 2; ++i) {
      const std::vector<PreparedWeight>& weights = sets[i].weights;
      const double start = seconds_now();
      matmul({x.data(), 1, k}, weights[next % weights.size()], ActMode::kA16, pool(), scratch, {y.data(), 1, n});
      times[i].push_back(seconds_now() - start);
    }
    state.SetIterationTime(times[0].back());
    ++next;
  }
  const char* names[] = {"fx3", "bf16"};
  double median[2], best[2];
  for (size_t i = 0; i < 2; ++i) {
    std::sort(times[i].begin(), times[i].end());
    best[i] = times[i].front();
    median[i] = times[i][times[i].size() / 2];
    state.counters[std::string(names[i]) + "_best_us"] = best[i] * 1e6;
    state.counters[std::string(names[i]) + "_GB/s"] = static_cast<double>(sets[i].weights[0].bytes()) / best[i] * 1e-9;
  }
  state.counters["speedup_best"] = best[1] / best[0];
  state.counters["speedup_median"] = median[1] / median[0];
}

// transformed/<what>/<N>x<K>: single-token products with and without column scales and block rotations of the input.
// transform_us is the transform alone, transform_share its part of the product's best time.
void run_transformed(benchmark::State& state, const test::WeightCase& c, const InputTransform& input) {
  const WeightSet set(c, input);
  const auto n = static_cast<size_t>(c.rows), k = static_cast<size_t>(c.cols);
  const std::vector<float> x = test::random_input(1, k, 2);
  std::vector<float> y(n);
  MatmulScratch scratch;
  std::vector<float> moved(k);
  double best = 1e9, transform = 1e9;
  size_t next = 0;
  for (auto _ : state) {
    const double start = seconds_now();
    matmul({x.data(), 1, k}, set.weights[next], ActMode::kA16, pool(), scratch, {y.data(), 1, n});
    const double end = seconds_now();
    if (input.present()) transform_rows(input, {x.data(), 1, k}, {moved.data(), 1, k});
    transform = std::min(transform, seconds_now() - end);
    best = std::min(best, end - start);
    state.SetIterationTime(end - start);
    next = (next + 1) % set.weights.size();
  }
  state.counters["best_us"] = best * 1e6;
  state.counters["transform_us"] = transform * 1e6;
  state.counters["transform_share"] = transform / best;
}

void register_transformed() {
  for (const Shape& shape : {Shape{2048, 2048}, Shape{8192, 2048}, Shape{2048, 8192}}) {
    InputTransform scales, hadamard, both;
    scales.col_scales = both.col_scales = Tensor::zeros(DType::kF32, {shape.k});
    for (float& s : std::span(scales.col_scales.mutable_data<float>(), static_cast<size_t>(shape.k))) s = 1.25f;
    both.col_scales = scales.col_scales;
    hadamard.hadamard = both.hadamard = 128;
    const std::pair<const char*, InputTransform> cases[] = {
        {"none", {}}, {"col_scales", scales}, {"hadamard128", hadamard}, {"both", both}};
    for (const auto& [name, input] : cases) {
      const test::WeightCase c{Format::kInt4, shape.n, shape.k, 64, DType::kBF16};
      const std::string full = fmt::format("transformed/{}/{}x{}", name, shape.n, shape.k);
      benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& s) { run_transformed(s, c, input); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

void register_all() {
  using enum Format;
  const Shape shapes[] = {{2048, 2048}, {2048, 8192}, {8192, 2048}, {8192, 8192}, {32000, 2048}};
  for (const Shape& shape : shapes)
    benchmark::RegisterBenchmark(fmt::format("fx3_beside_bf16/{}x{}/M1", shape.n, shape.k).c_str(),
                                 [=](benchmark::State& s) { run_fx3_beside_bf16(s, shape); })
        ->UseManualTime()
        ->Iterations(200)
        ->Unit(benchmark::kMicrosecond);
  struct Row {
    const char* name;
    Format format;
    int64_t group;
    DType scale;
  };
  const Row rows[] = {{"bf16", kBF16, 0, DType::kF32},       {"fx3", kFx3, 0, DType::kF32},
                      {"f16", kF16, 0, DType::kF32},         {"f32", kF32, 0, DType::kF32},
                      {"int4_g64", kInt4, 64, DType::kBF16}, {"int4_g128", kInt4, 128, DType::kBF16},
                      {"nf4_g64", kNF4, 64, DType::kBF16},   {"mxfp4", kMxfp4, 32, DType::kF32},
                      {"nvfp4", kNvfp4, 16, DType::kF32},    {"q4_0", kQ4_0, 32, DType::kF16},
                      {"q4_k", kQ4_K, 32, DType::kF16},      {"q6_k", kQ6_K, 16, DType::kF16},
                      {"q8_0", kQ8_0, 32, DType::kF16},      {"int8_channel", kInt8, 0, DType::kBF16},
                      {"fp8_channel", kFp8, 0, DType::kF32}};
  for (const Row& row : rows)
    for (const Shape& shape : shapes)
      for (const size_t m : {1, 4, 16, 256, 512})
        for (const ActMode mode : {ActMode::kA16, ActMode::kA8}) {
          const CodeKind kind = format_info(row.format).kind;
          const bool float_acts = kind == CodeKind::kDense || kind == CodeKind::kE4M3 || kind == CodeKind::kBF16Planes;
          if (float_acts && mode == ActMode::kA8) continue;
          const test::WeightCase c{row.format, shape.n, shape.k, row.group == 0 ? shape.k : row.group, row.scale};
          const std::string name = std::string("matmul/") + row.name + (mode == ActMode::kA8 ? "/a8/" : "/a16/") +
                                   std::to_string(shape.n) + "x" + std::to_string(shape.k) + "/M" + std::to_string(m);
          benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& s) { run(s, c, mode, m); })
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond);
        }
}

}  // namespace

void add_context() {
  const Roofline& r = roofline();
  benchmark::AddCustomContext("isa", std::string(isa_name(active_isa())));
  benchmark::AddCustomContext("cpu", std::string(cpu_model()));
  benchmark::AddCustomContext("threads", std::to_string(pool().size()));
  benchmark::AddCustomContext("read_GB/s", std::to_string(r.read_gbs));
  benchmark::AddCustomContext("f32_GFLOP/s", std::to_string(r.f32_gflops));
  benchmark::AddCustomContext("int8_GOP/s", std::to_string(r.int8_gops));
  benchmark::AddCustomContext("int16_GOP/s", std::to_string(r.int16_gops));
  benchmark::AddCustomContext("bf16_GFLOP/s", std::to_string(r.bf16_gflops));
}

void register_benches() {
  register_all();
  register_transformed();
}

}  // namespace fettle::kernels

int main(int argc, char** argv) {
  fettle::kernels::register_benches();
  benchmark::Initialize(&argc, argv);
  fettle::kernels::add_context();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
