#include "compress/convert.h"

#include <chrono>

#include "compress/checkpoint_files.h"
#include "compress/convert_gguf.h"
#include "compress/gguf_metadata.h"
#include "io/model_files.h"

namespace fettle::compress {
namespace {

// "dir/name/" and "dir/name.gguf" are both called "name".
std::string model_name(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.pop_back();
  std::string name = base_name(trimmed);
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return name;
}

}  // namespace

ConvertReport convert(const std::string& model, const std::string& out, const ConvertOptions& options, ThreadPool& pool,
                      const CancelToken* cancel) {
  const auto start = std::chrono::steady_clock::now();
  const io::ModelFiles files = io::resolve_model(model);
  const bool from_gguf = files.kind == io::ModelFiles::Kind::kGguf;
  const auto source = from_gguf ? models::open_gguf_weights(files, pool) : models::open_hf_weights(files, pool);
  ConvertReport report;
  if (out.ends_with(".gguf")) {
    require_apart(files.path, out);
    const std::string name = options.name.empty() ? model_name(files.path) : options.name;
    const auto add_text = [&](io::GgufMetadata& metadata) {
      from_gguf ? copy_text_metadata(io::GgufFile::open(files.path), metadata)
                : add_text_metadata(files, source->config(), metadata);
    };
    report = write_gguf(*source, out, name, add_text, options, pool, cancel);
  } else {
    report = write_hf(*source, out, files, options, pool, cancel);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace fettle::compress
