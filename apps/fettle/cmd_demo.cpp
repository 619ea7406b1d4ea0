#include <chrono>

#include "base/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "commands.h"
#include "compress/compress.h"
#include "demo_files.h"
#include "demo_report.h"
#include "model_flags.h"

namespace fettle::cli {
namespace {

struct DemoFlags {
  Common common;
  std::string out = "fettle-demo";
  int64_t windows = 80;
  bool overwrite = false;
};

// What the demo tries; a row per format family, default options otherwise.
struct Variant {
  const char* name;
  Format format;
  int64_t group_size;
  bool symmetric;
};
constexpr Variant kVariants[] = {
    {"int8", Format::kInt8, 0, true},      {"fp8", Format::kFp8, 0, true},
    {"int4-g32", Format::kInt4, 32, true}, {"int4-g64-asym", Format::kInt4, 64, false},
    {"nf4", Format::kNF4, 0, true},        {"mxfp4", Format::kMxfp4, 0, true},
    {"nvfp4", Format::kNvfp4, 0, true},
};
constexpr size_t kContext = 256;
constexpr const char* kPrompt = "The old man looked at the sea and";
constexpr const char* kMarker = "demo.json";  // tells a folder of ours from somebody else's

class Demo {
 public:
  Demo(const DemoFlags& flags, const CancelToken& cancel)
      : flags_(flags),
        cancel_(cancel),
        pool_(start(flags.common)),
        files_(find_demo_files()),
        variants_(*pool_, cancel) {}

  void run() {
    const auto begin = std::chrono::steady_clock::now();
    const bool ours = file_exists(path_join(flags_.out, kMarker));
    OutputDir dir(flags_.out, flags_.overwrite || ours ? Overwrite::kYes : Overwrite::kNo);
    result_.model = "books-5m (5.48 M parameters, bf16)";
    result_.text = base_name(files_.text);
    variants_.add("original", files_.model, 0, 0);
    for (const Variant& v : kVariants) {
      log_info("compressing to {}", v.name);
      compress::CompressOptions options;
      options.format = v.format;
      options.numbers.group_size = v.group_size;
      options.numbers.symmetric = v.symmetric;
      const auto report = compress::compress(files_.model, dir.file(v.name), options, *pool_, &cancel_);
      variants_.add(v.name, dir.file(v.name), report.plan.bits_per_weight(), report.mean_error());
    }
    log_info("measuring perplexity and KL on {}", result_.text);
    variants_.measure_quality(files_.text, kContext,
                              static_cast<int64_t>(in_range("--chunks", flags_.windows, 0, 1 << 20)));
    log_info("measuring speed");
    variants_.measure_speed();
    result_.rows = variants_.rows();
    choose_best();
    generate();
    result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    result_.threads = pool_->size();
    write_file_atomic(dir.file("report.html"), demo_html(result_));
    write_file_atomic(dir.file(kMarker), demo_json(result_).dump(2) + "\n");
    dir.commit();
    if (flags_.common.json) return print_json(demo_json(result_));
    print(demo_text(result_) + fmt::format("\nreport: {}\n", path_join(flags_.out, "report.html")));
  }

 private:
  // Eight bits nearly always lose least; the interesting choice is among the small ones.
  void choose_best() {
    size_t best = 0;
    for (size_t i = 1; i < result_.rows.size(); ++i) {
      const VariantRow& row = result_.rows[i];
      if (row.bits < 5 && (best == 0 || row.quality.kl.value < result_.rows[best].quality.kl.value)) best = i;
    }
    result_.best = best;
  }

  void generate() {
    engine::EngineOptions options;
    options.max_seqs = 1;
    engine::Engine engine(variants_.llm(result_.best), options, *pool_);
    engine::Request request;
    request.prompt = variants_.llm(result_.best)->tokenizer().encode(kPrompt);
    request.sampling.seed = 7;
    request.max_tokens = 120;
    const engine::Result r = run_request(engine, std::move(request), cancel_);
    cancel_.check();
    result_.generated = kPrompt + r.text;
  }

  const DemoFlags& flags_;
  const CancelToken& cancel_;
  std::unique_ptr<ThreadPool> pool_;
  DemoFiles files_;
  Variants variants_;
  DemoResult result_;
};

}  // namespace

void add_demo(Program& program) {
  auto f = std::make_shared<DemoFlags>();
  Command& c = program.add("demo", "the whole job on the embedded model: compress, measure, report, generate");
  c.option("-o,--out", &f->out, "DIR",
           "folder for models and report.html (default ./fettle-demo; replaced when the demo wrote it)");
  c.option("--chunks", &f->windows, "N", "windows of 256 tokens to measure on; 0 = the whole text (default 80)");
  c.toggle("--overwrite", &f->overwrite, "replace any existing folder");
  add_common(c, f->common);
  c.details("Needs no network and no argument; takes under two minutes on two CPUs.");
  c.example("fettle demo", "then open fettle-demo/report.html");
  c.on_run([f, &program] { Demo(*f, program.cancel()).run(); });
}

}  // namespace fettle::cli
