#include "base/log.h"
#include "commands.h"
#include "compress/synth.h"
#include "context.h"

namespace fettle::cli {
namespace {

struct SynthFlags {
  Common common;
  compress::SynthOptions shape;
  std::string out, dtype = "bf16";
  int64_t seed = 0;
  bool overwrite = false, list = false;
};

DType parse_dtype_flag(const std::string& name) {
  if (name == "f32") return DType::kF32;
  return name == "f16" ? DType::kF16 : DType::kBF16;
}

void list_shapes(bool json) {
  Json list = Json::array();
  std::string text;
  for (const auto& s : compress::synth_shapes()) {
    Json entry = Json::object();
    entry["arch"] = s.arch;
    entry["params"] = s.params;
    entry["like"] = s.like;
    list.push_back(std::move(entry));
    text += fmt::format("{:<12} {:<8} {}\n", s.arch, s.params, s.like);
  }
  json ? print_json(list) : print(text);
}

void run_synth(const SynthFlags& f, const CancelToken& cancel) {
  if (f.list) return list_shapes(f.common.json);
  if (f.out.empty()) fail(ErrorCode::kUsage, "fettle synth: expected -o DIR");
  const auto pool = start(f.common);
  compress::SynthOptions options = f.shape;
  options.dtype = parse_dtype_flag(f.dtype);
  options.seed = static_cast<uint64_t>(f.seed);
  const auto report = compress::synth(f.out, options, f.overwrite ? Overwrite::kYes : Overwrite::kNo, *pool, &cancel);
  if (!f.common.json) {
    print(fmt::format("{}: {} {}, {:.3f} M parameters in {} tensors, {} ({})\n", f.out, options.arch, options.params,
                      static_cast<double>(report.parameters) / 1e6, report.tensors,
                      human_bytes(static_cast<double>(report.bytes)), f.dtype));
    return;
  }
  Json out = Json::object();
  out["path"] = f.out;
  out["arch"] = options.arch;
  out["params"] = options.params;
  out["parameters"] = report.parameters;
  out["bytes"] = report.bytes;
  out["tensors"] = report.tensors;
  print_json(out);
}

}  // namespace

void add_synth(Program& program) {
  auto f = std::make_shared<SynthFlags>();
  Command& c = program.add("synth", "write a random-weight checkpoint of a real shape");
  c.option("--arch", &f->shape.arch, "ARCH", "architecture (default llama); see --list");
  c.option("--params", &f->shape.params, "SIZE", "size within the architecture (default tiny); see --list");
  c.option("-o,--out", &f->out, "DIR", "folder to write");
  c.option("--dtype", &f->dtype, "TYPE", "storage type (default bf16)").choices({"bf16", "f16", "f32"});
  c.option("-s,--seed", &f->seed, "N", "seed of the weights (default 0)");
  c.toggle("--list", &f->list, "list the shapes and the models they come from");
  c.toggle("--overwrite", &f->overwrite, "replace an existing folder");
  add_common(c, f->common);
  c.details(
      "The weights are noise: use the folder to measure speed and memory, or to test a tool, without a download. It "
      "holds "
      "a byte-level tokenizer, so that every command accepts it.");
  c.example("fettle synth --arch llama --params 1b -o synth-1b", "2.2 GB, the shape of the performance tables");
  c.on_run([f, &program] { run_synth(*f, program.cancel()); });
}

}  // namespace fettle::cli
