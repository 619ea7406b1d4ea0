#include <algorithm>
#include <map>

#include "base/cpu.h"
#include "commands.h"
#include "compress/manifest.h"
#include "compress/model_tensors.h"
#include "context.h"
#include "eval/html_report.h"
#include "io/lossless_compare.h"
#include "io/model_files.h"
#include "models/gguf_names.h"
#include "models/weight_source.h"

namespace fettle::cli {
namespace {

struct InspectFlags {
  Common common;
  std::string model, other;
  bool tensors = false, lossless = false;
};

struct Entry {
  std::string name, format;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
};

struct Summary {
  std::string architecture;
  std::vector<Entry> tensors;
  int64_t parameters = 0;
  uint64_t bytes = 0;
  double bits_per_weight() const {
    return parameters > 0 ? 8 * static_cast<double>(bytes) / static_cast<double>(parameters) : 0;
  }
};

Summary summarise_gguf(const io::ModelFiles& files) {
  const io::TensorSource source = io::TensorSource::open(files);
  Summary s;
  s.architecture = std::string(source.gguf().string("general.architecture"));
  for (const io::TensorEntry* e : source.entries()) {
    std::string format = e->type;
    std::transform(format.begin(), format.end(), format.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    s.tensors.push_back({e->name, format, e->shape, e->bytes});
  }
  return s;
}

Summary summarise_directory(const io::ModelFiles& files, ThreadPool& pool) {
  using compress::ModelTensor;
  const auto source = models::open_hf_weights(files, pool);
  const models::ModelConfig& config = source->config();
  Summary s;
  s.architecture = config.model_type;
  for (const ModelTensor& t : compress::model_tensors(config)) {
    if (t.kind == ModelTensor::Kind::kVector) {
      source->vector(t.name, t.rows);  // checks shape and type
      s.tensors.push_back(
          {compress::published_name(config, t.name), "f32", {t.rows}, static_cast<uint64_t>(t.rows) * 4});
      continue;
    }
    if (t.name == "lm_head" && !source->has("lm_head")) continue;
    const bool experts = t.kind == ModelTensor::Kind::kExperts;
    for (int64_t j = 0; j < (experts ? config.num_experts : 1); ++j) {
      const PackedWeight w =
          experts ? source->expert(t.name, j, t.part, t.rows, t.cols) : source->matrix(t.name, t.rows, t.cols);
      const std::string name = experts ? fmt::format("{}.{}.{}.weight", t.name, j, t.part) : t.name + ".weight";
      s.tensors.push_back({compress::published_name(config, name),
                           std::string(format_info(w.format).name),
                           {t.rows, t.cols},
                           w.file_bytes()});
    }
  }
  return s;
}

Json summary_json(const Summary& s) {
  Json out = Json::object();
  out["architecture"] = s.architecture;
  out["parameters"] = s.parameters;
  out["bytes"] = s.bytes;
  out["bits_per_weight"] = s.bits_per_weight();
  Json tensors = Json::array();
  for (const Entry& e : s.tensors) {
    Json shape = Json::array();
    for (const int64_t d : e.shape) shape.push_back(d);
    Json t = Json::object();
    t["name"] = e.name;
    t["shape"] = std::move(shape);
    t["format"] = e.format;
    t["bytes"] = e.bytes;
    tensors.push_back(std::move(t));
  }
  out["tensors"] = std::move(tensors);
  return out;
}

std::string summary_text(const std::string& model, const Summary& s, bool with_tensors) {
  std::string out =
      fmt::format("{}\narchitecture: {}\nparameters: {:.3f} M in {} tensors\nsize: {}\nbits/weight: {:.3f}\n\n", model,
                  s.architecture, static_cast<double>(s.parameters) / 1e6, s.tensors.size(),
                  human_bytes(static_cast<double>(s.bytes)), s.bits_per_weight());
  struct Sum {
    size_t tensors = 0;
    int64_t elements = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, Sum> by_format;
  for (const Entry& e : s.tensors) {
    Sum& sum = by_format[e.format];
    ++sum.tensors;
    sum.elements += e.elements();
    sum.bytes += e.bytes;
  }
  eval::ReportTable formats;
  formats.columns = {{"format", false}, {"tensors"}, {"M parameters"}, {"size"}, {"bits/weight"}};
  for (const auto& [name, sum] : by_format)
    formats.rows.push_back(
        {name, std::to_string(sum.tensors), fmt::format("{:.3f}", static_cast<double>(sum.elements) / 1e6),
         human_bytes(static_cast<double>(sum.bytes)),
         fmt::format("{:.3f}", 8 * static_cast<double>(sum.bytes) / static_cast<double>(sum.elements))});
  out += eval::render_text(formats);
  if (!with_tensors) return out;
  eval::ReportTable tensors;
  tensors.columns = {{"tensor", false}, {"format", false}, {"shape", false}, {"bytes"}};
  for (const Entry& e : s.tensors)
    tensors.rows.push_back({e.name, e.format, fmt::format("[{}]", fmt::join(e.shape, ", ")), std::to_string(e.bytes)});
  return out + "\n" + eval::render_text(tensors);
}

// Which implementation runs: the level chosen and the ones this machine has.
void inspect_kernels(bool json) {
  std::vector<std::string> levels;
  for (const Isa isa : supported_isas()) levels.emplace_back(isa_name(isa));
  if (json) {
    Json list = Json::array();
    for (const std::string& l : levels) list.push_back(l);
    Json out = Json::object();
    out["cpu"] = cpu_model();
    out["cpus"] = available_cpus();
    out["isa"] = isa_name(active_isa());
    out["supported"] = std::move(list);
    return print_json(out);
  }
  print(
      fmt::format("cpu: {}, {} CPUs for this process\nkernels run at level: {}\nthis machine has: {}\n"
                  "force another one with --isa LEVEL or FETTLE_ISA=LEVEL\n",
                  cpu_model(), available_cpus(), isa_name(active_isa()), fmt::join(levels, ", ")));
}

void run_inspect(const InspectFlags& f) {
  const auto pool = start(f.common);
  if (f.model == "kernels") return inspect_kernels(f.common.json);
  const io::ModelFiles files = io::resolve_model(f.model);
  Summary s = files.kind == io::ModelFiles::Kind::kGguf ? summarise_gguf(files) : summarise_directory(files, *pool);
  for (const Entry& e : s.tensors) {
    s.parameters += e.elements();
    s.bytes += e.bytes;
  }
  f.common.json ? print_json(summary_json(s)) : print(summary_text(f.model, s, f.tensors || f.common.verbose));
}

void run_verify(const std::string& dir, bool json) {
  const std::vector<std::string> problems = compress::verify_manifest(dir);
  if (json) {
    Json list = Json::array();
    for (const std::string& p : problems) list.push_back(p);
    Json out = Json::object();
    out["ok"] = problems.empty();
    out["problems"] = std::move(list);
    print_json(out);
  } else {
    for (const std::string& p : problems) print(p + "\n");
    if (problems.empty()) print("all files are as recorded\n");
  }
  if (!problems.empty())
    fail(ErrorCode::kNumeric, "{}: {} files differ from {}", dir, problems.size(), compress::kManifestName);
}

void run_lossless(const InspectFlags& f, const CancelToken& cancel) {
  if (f.other.empty()) fail(ErrorCode::kUsage, "fettle verify --lossless: expected two models");
  const auto pool = start(f.common);
  const io::BitComparison c = io::compare_bits(io::resolve_model(f.model), io::resolve_model(f.other), *pool, &cancel);
  if (f.common.json) {
    Json list = Json::array();
    for (const std::string& d : c.differences) list.push_back(d);
    Json out = Json::object();
    out["ok"] = c.differences.empty();
    out["identical_tensors"] = static_cast<uint64_t>(c.tensors);
    out["problems"] = std::move(list);
    print_json(out);
  } else {
    for (const std::string& d : c.differences) print(d + "\n");
    if (c.differences.empty())
      print(fmt::format("{} tensors, {}: identical bits\n", c.tensors, human_bytes(static_cast<double>(c.bytes))));
  }
  if (!c.differences.empty())
    fail(ErrorCode::kNumeric, "{} and {} differ in {} tensors", f.model, f.other, c.differences.size());
}

}  // namespace

void add_inspect(Program& program) {
  auto f = std::make_shared<InspectFlags>();
  Command& c = program.add("inspect", "architecture, tensors, formats and sizes of a model").alias("show");
  c.positional("MODEL", &f->model, "directory, .gguf file or hub id; `kernels` tells which kernels run");
  c.toggle("--tensors", &f->tensors, "list every tensor");
  add_common(c, f->common);
  c.example("fettle inspect models/books-5m", "sizes by format");
  c.example("fettle inspect kernels", "instruction set levels");
  c.on_run([f] { run_inspect(*f); });
  Command& v = program.add("verify", "check a directory against the SHA-256 sums in its fettle-manifest.json");
  v.positional("DIR", &f->model, "directory written by fettle");
  v.positional("OTHER", &f->other, "with --lossless: the model to compare with", false);
  v.toggle("--lossless", &f->lossless,
           "compare two models bit by bit instead, every tensor, across shardings, DFloat11 and FX3");
  add_common(v, f->common);
  v.example("fettle verify --lossless models/books-5m books-df11", "prove that nothing was lost");
  v.on_run([f, &program] {
    if (f->lossless) return run_lossless(*f, program.cancel());
    if (!f->other.empty()) fail(ErrorCode::kUsage, "fettle verify: a second model needs --lossless");
    run_verify(f->model, f->common.json);
  });
}

}  // namespace fettle::cli
