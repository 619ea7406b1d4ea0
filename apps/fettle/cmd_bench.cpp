#include <chrono>
#include <ctime>
#include <map>

#include "base/cpu.h"
#include "base/log.h"
#include "commands.h"
#include "eval/html_report.h"
#include "eval/speed.h"
#include "kernels/roofline.h"
#include "machine_limits.h"
#include "model_flags.h"
#include "version.h"

namespace fettle::cli {
namespace {

struct BenchFlags {
  Common common;
  ModelFlags model;
  std::string prompt = "512", generate = "128", depth = "0", output = "md";
  std::vector<std::string> pairs;
  int64_t repetitions = 5;
  bool no_limits = false;
};

std::vector<eval::SpeedTest> tests_of(const BenchFlags& f) {
  std::vector<eval::SpeedTest> tests;
  for (const size_t depth : eval::parse_size_list(f.depth, "--n-depth")) {
    for (const size_t n : eval::parse_size_list(f.prompt, "--n-prompt"))
      if (n > 0) tests.push_back({n, 0, depth});
    for (const size_t n : eval::parse_size_list(f.generate, "--n-gen"))
      if (n > 0) tests.push_back({0, n, depth});
    for (const std::string& pair : f.pairs) {
      const auto values = eval::parse_size_list(pair, "-pg");
      if (values.size() != 2) fail(ErrorCode::kUsage, "-pg: expected PROMPT,GENERATED, found '{}'", printable(pair));
      tests.push_back({values[0], values[1], depth});
    }
  }
  if (tests.empty()) fail(ErrorCode::kUsage, "fettle bench: nothing to measure: all counts are zero");
  return tests;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

struct Bench {
  const BenchFlags& flags;
  std::shared_ptr<const engine::Llm> llm;
  int threads = 1;
  double load_seconds = 0, busy = 0;
  eval::MachineLimits limits;
  std::vector<eval::SpeedResult> results;

  double weight_bytes() const {
    double bytes = 0;
    for (const auto& t : llm->model().tensors()) bytes += static_cast<double>(t.bytes);
    return bytes;
  }
  std::string type() const { return fmt::format("{} {}", llm->model().config().model_type, main_format(llm->model())); }
};

Json bench_json(const Bench& b) {
  Json list = Json::array();
  for (const eval::SpeedResult& r : b.results) {
    Json out = Json::object();
    out["test"] = r.test.name();
    out["threads"] = b.threads;
    out["tokens_per_s"] = r.tokens_per_s;
    out["stddev"] = r.stddev;
    out["bytes_per_s"] = r.bytes_per_s;
    out["flops_per_s"] = r.flops_per_s;
    out["limit_fraction"] = r.limit_fraction;
    out["limit_read_bytes_per_s"] = b.limits.read_bytes_per_s;
    out["limit_flops_per_s"] = b.limits.flops_per_s;
    out["load_seconds"] = b.load_seconds;
    out["load_average_per_cpu"] = b.busy;
    out["resident_bytes"] = eval::resident_bytes();
    out["peak_resident_bytes"] = eval::peak_resident_bytes();
    out["isa"] = isa_name(active_isa());
    out["activations"] = b.flags.model.activations;
    // llama-bench's names
    out["build_commit"] = kCommit;
    out["cpu_info"] = cpu_model();
    out["model_filename"] = b.flags.model.model;
    out["model_type"] = b.type();
    out["model_size"] = static_cast<uint64_t>(b.weight_bytes());
    out["model_n_params"] = b.llm->model().parameters();
    out["n_batch"] = b.flags.model.batch;
    out["n_threads"] = b.threads;
    out["type_k"] = b.flags.model.kv_type;
    out["type_v"] = b.flags.model.kv_type;
    out["n_prompt"] = static_cast<uint64_t>(r.test.prompt);
    out["n_gen"] = static_cast<uint64_t>(r.test.generate);
    out["n_depth"] = static_cast<uint64_t>(r.test.depth);
    out["test_time"] = utc_now();
    out["avg_ts"] = r.tokens_per_s;
    out["stddev_ts"] = r.stddev;
    Json samples = Json::array();
    for (const double s : r.samples_tokens_per_s) samples.push_back(s);
    out["samples_ts"] = std::move(samples);
    list.push_back(std::move(out));
  }
  return list;
}

std::string bench_markdown(const Bench& b) {
  std::string out =
      "| model | size | params | backend | threads | test | t/s | GB/s | GFLOP/s | of limit |\n"
      "| --- | ---: | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |\n";
  for (const eval::SpeedResult& r : b.results)
    out += fmt::format("| {} | {} | {:.2f} M | CPU {} | {} | {} | {:.2f} ± {:.2f} | {:.2f} | {:.1f} | {} |\n", b.type(),
                       human_bytes(b.weight_bytes()), static_cast<double>(b.llm->model().parameters()) / 1e6,
                       isa_name(active_isa()), b.threads, r.test.name(), r.tokens_per_s, r.stddev, r.bytes_per_s / 1e9,
                       r.flops_per_s / 1e9,
                       r.limit_fraction > 0 ? fmt::format("{:.0f} %", 100 * r.limit_fraction) : std::string("-"));
  out += fmt::format("\nload {:.2f} s, resident memory {}, peak {}\n", b.load_seconds,
                     human_bytes(static_cast<double>(eval::resident_bytes())),
                     human_bytes(static_cast<double>(eval::peak_resident_bytes())));
  if (b.limits.read_bytes_per_s > 0)
    out += fmt::format("measured limits, {} threads: read {:.1f} GB/s, arithmetic of prefill {:.0f} GFLOP/s\n",
                       b.threads, b.limits.read_bytes_per_s / 1e9, b.limits.flops_per_s / 1e9);
  return out;
}

void run_bench(const BenchFlags& f, const CancelToken& cancel) {
  const std::vector<eval::SpeedTest> tests = tests_of(f);
  Bench b{f, nullptr, thread_count(f.common), 0, eval::load_per_cpu(), {}, {}};
  const auto pool = start(f.common);
  if (b.busy > 0.5)
    log_warning("the machine is busy (load average {:.2f} per CPU): expect slower and less steady numbers", b.busy);
  const auto begin = std::chrono::steady_clock::now();
  b.llm = load_model(f.model, *pool);
  b.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const bool int8 = f.model.activations == "a8";
  if (!f.no_limits) b.limits = measure_limits(b.llm->model(), int8, *pool);
  eval::SpeedOptions options;
  options.repetitions = in_range("--repetitions", f.repetitions, 1, 1000);
  options.batch = in_range("--batch-size", f.model.batch, 1, 1 << 16);
  for (const eval::SpeedTest& test : tests) {
    log_debug("measuring {}", test.name());
    b.results.push_back(eval::measure_speed(b.llm->model(), test, options, b.limits, *pool, &cancel));
  }
  if (f.common.json || f.output == "json") return print_json(bench_json(b));
  if (f.output == "md") return print(bench_markdown(b));
  std::string lines;
  const Json list = bench_json(b);
  for (const Json& entry : list.as_array()) lines += entry.dump() + "\n";
  print(lines);
}

}  // namespace

void add_bench(Program& program) {
  auto f = std::make_shared<BenchFlags>();
  Command& c = program.add("bench", "speed of a model and its share of this machine's limits");
  add_model(c, f->model);
  c.option("-p,--n-prompt", &f->prompt, "LIST",
           "prompt tokens (default 512); lists: 128,256 or 0-1024+256 or 64-512*2");
  c.option("-n,--n-gen", &f->generate, "LIST", "generated tokens (default 128)");
  c.option("-pg,--prompt-gen", &f->pairs, "P,G", "a prompt of P tokens followed by G generated ones; may be repeated");
  c.option("-d,--n-depth", &f->depth, "LIST", "tokens already in the context (default 0)");
  c.option("-r,--repetitions", &f->repetitions, "N", "repetitions after one warm-up (default 5)");
  c.option("-b,-ub,--batch-size", &f->model.batch, "N", "prompt tokens per forward pass (default 512)");
  c.option("-o,--output", &f->output, "FORM", "md, json or jsonl (default md)").choices({"md", "json", "jsonl"});
  c.toggle("--no-limits", &f->no_limits, "do not measure the machine's limits");
  add_common(c, f->common);
  c.details(
      "Random tokens, no sampling, an empty cache for every repetition, as llama-bench. Generation is compared with "
      "the "
      "read bandwidth measured in the same run with the same threads, prompt processing with the peak of the "
      "multiply-add "
      "instruction its kernels use.");
  c.example("fettle bench models/books-5m -p 256 -n 64 -r 3", "a quick run");
  c.on_run([f, &program] { run_bench(*f, program.cancel()); });
}

}  // namespace fettle::cli
