#include <set>

#include "fuzz_util.h"
#include "io/linear_loader.h"
#include "io/linear_writer.h"

// A quantised folder: "config.json %% header %% data". Oracle: whatever loads is a valid packed weight that decodes to
// rows * cols numbers, and what the writer makes of it loads again.
namespace {

using namespace fettle;

void load_module(const io::TensorSource& source, const io::QuantConfig& config, const std::string& module, int64_t rows,
                 int64_t cols) {
  if (rows < 1 || cols < 1 || rows > 4096 || cols > 4096) return;
  fuzz::accepts([&] {
    const PackedWeight w = io::load_linear(source, config, module, rows, cols);
    FUZZ_CHECK(w.rows == rows && w.cols == cols);
    FUZZ_CHECK(decode(w).size() == static_cast<size_t>(rows * cols));
    const auto specs = io::linear_specs(module, io::plan_of(w));
    const auto tensors = io::linear_tensors(module, w);
    FUZZ_CHECK(specs.size() == tensors.size());
    for (size_t i = 0; i < specs.size(); ++i)
      FUZZ_CHECK(specs[i].name == tensors[i].first && specs[i].dtype == tensors[i].second.dtype() &&
                 specs[i].shape == tensors[i].second.shape());
  });
}

// Every module named by a tensor, with the shapes its codes could have.
void load_all(const io::TensorSource& source, const io::QuantConfig& config) {
  for (const io::TensorEntry* e : source.entries()) {
    const size_t dot = e->name.rfind('.');
    if (dot == std::string::npos || e->shape.size() != 2) continue;
    const std::string module = e->name.substr(0, dot);
    const int64_t a = e->shape[0], b = e->shape[1];
    if (a > 4096 || b > 4096) continue;
    for (const int64_t codes : {1, 2, 4, 8}) {
      load_module(source, config, module, a, b * codes);
      load_module(source, config, module, b, a * codes);  // GPTQ
      load_module(source, config, module, b * codes, a);  // AWQ
    }
  }
  for (const io::TensorEntry* e : source.entries())
    if (e->name.ends_with("_blocks") && e->shape.size() == 4 && e->shape[0] > 0 && e->shape[0] < 64 &&
        e->shape[1] < 4096 && e->shape[2] < 128)
      fuzz::accepts([&] {
        io::load_expert(source, config, e->name.substr(0, e->name.size() - 7), e->shape[0] - 1, e->shape[0],
                        e->shape[1], e->shape[2] * 32);
      });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto p = fuzz::parts(fuzz::as_text(data, size), 3);
  if (p.size() < 3) return 0;
  const std::string dir = fuzz::scratch_dir();
  fuzz::put_file(dir + "/model.safetensors", fuzz::safetensors_image(p[1], p[2]));
  fuzz::accepts([&] {
    const Json config = parse_json(p[0], "config.json");
    const io::QuantConfig quant = io::QuantConfig::parse(config, "config.json");
    load_all(io::TensorSource::open_directory(dir), quant);
  });
  return 0;
}
