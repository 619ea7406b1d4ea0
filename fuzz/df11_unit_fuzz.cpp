#include "fuzz_util.h"
#include "io/df11_layout.h"
#include "io/linear_loader.h"

// A DFloat11 folder: "config.json %% header %% data". Oracle: a matrix that loads has the asked size, loads to the same
// bits in a second go.
namespace {

using namespace fettle;

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.nbytes() == b.nbytes() && std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin());
}

void load_unit(const io::TensorSource& source, const std::string& unit, size_t count) {
  fuzz::accepts([&] {
    const std::vector<int64_t> sizes = io::df11_sizes(source, {unit, 0, count});
    for (size_t i = 0; i < count; ++i) {
      const Tensor t = io::read_df11_words(source, {unit, i, count}, nullptr);
      FUZZ_CHECK(t.numel() == sizes[i]);
      FUZZ_CHECK(same_bits(t, io::read_df11_words(source, {unit, i, count}, nullptr)));
      fuzz::touch(t.bytes());
    }
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
    const io::TensorSource source = io::TensorSource::open_directory(dir);
    for (const io::TensorEntry* e : source.entries()) {
      if (!e->name.ends_with(".encoded_exponent")) continue;
      const std::string unit = e->name.substr(0, e->name.rfind('.'));
      for (const io::Df11Pattern& pattern : quant.df11_patterns())
        if (pattern.modules.size() < 16) load_unit(source, unit, std::max<size_t>(1, pattern.modules.size()));
      for (const char* part : {".q", ".k"}) fuzz::accepts([&] { io::load_linear(source, quant, unit + part, 8, 64); });
      fuzz::accepts([&] { io::load_linear(source, quant, unit, 8, 64); });
    }
  });
  return 0;
}
