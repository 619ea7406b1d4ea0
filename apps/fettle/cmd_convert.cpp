#include "commands.h"
#include "compress/convert.h"
#include "context.h"

namespace fettle::cli {
namespace {

struct ConvertFlags {
  Common common;
  compress::ConvertOptions options;
  std::string model, out;
  bool overwrite = false;
};

void run_convert(ConvertFlags& f, const CancelToken& cancel) {
  const auto pool = start(f.common);
  f.options.overwrite = f.overwrite ? Overwrite::kYes : Overwrite::kNo;
  const compress::ConvertReport r = compress::convert(f.model, f.out, f.options, *pool, &cancel);
  size_t exact = 0;
  for (const auto& t : r.tensors) exact += t.exact ? 1 : 0;
  if (!f.common.json) {
    if (f.common.verbose)
      for (const auto& t : r.tensors)
        print(fmt::format("{:<48} {} -> {}{}\n", t.name, t.from, t.to, t.exact ? "" : " (rounded)"));
    print(fmt::format("{}: architecture {}, {} tensors, {} hold the same numbers, {} in {:.2f} s\n", f.out,
                      r.architecture, r.tensors.size(), exact, human_bytes(static_cast<double>(r.bytes)), r.seconds));
    return;
  }
  Json out = Json::object();
  out["output"] = f.out;
  out["architecture"] = r.architecture;
  out["type"] = f.options.type;
  out["bytes"] = r.bytes;
  out["seconds"] = r.seconds;
  out["exact_tensors"] = static_cast<uint64_t>(exact);
  out["fallbacks"] = static_cast<uint64_t>(r.fallbacks);
  Json tensors = Json::array();
  for (const auto& t : r.tensors) {
    Json entry = Json::object();
    entry["name"] = t.name;
    entry["from"] = t.from;
    entry["to"] = t.to;
    entry["exact"] = t.exact;
    tensors.push_back(std::move(entry));
  }
  out["tensors"] = std::move(tensors);
  print_json(out);
}

}  // namespace

void add_convert(Program& program) {
  auto f = std::make_shared<ConvertFlags>();
  Command& c = program.add("convert", "rewrite a model as GGUF or as a Hugging Face directory");
  c.positional("MODEL", &f->model, "directory, .gguf file or hub id");
  c.option("-o,--out", &f->out, "OUT", "a name ending in .gguf writes GGUF, anything else a directory");
  c.option("--outtype,--type", &f->options.type, "TYPE",
           "auto, f32, f16, bf16; for GGUF also q8_0, q4_0, mxfp4 (default auto: keep what is stored)");
  c.option("--name", &f->options.name, "NAME", "general.name of a GGUF file (default: the model's name)");
  c.toggle("--overwrite", &f->overwrite, "replace existing output");
  add_common(c, f->common);
  c.details(
      "auto keeps dense types and turns quantised layers into the GGUF type that holds the same numbers (mxfp4, nvfp4, "
      "symmetric int8 and int4 whose scales are 16-bit floats); where there is none the conversion is refused. A "
      "directory from quantised weights needs --type: the weights are dequantised. Vectors are always kept exactly.");
  c.example("fettle convert models/books-5m -o books.gguf --type q8_0", "for llama.cpp");
  c.example("fettle convert books.gguf -o books-back --type bf16", "and back");
  c.on_run([f, &program] {
    if (f->out.empty()) fail(ErrorCode::kUsage, "fettle convert: expected -o OUT");
    run_convert(*f, program.cancel());
  });
}

}  // namespace fettle::cli
