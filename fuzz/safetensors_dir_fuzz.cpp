#include "fuzz_util.h"
#include "io/checkpoint.h"
#include "io/checkpoint_writer.h"

// A folder with an index and two shards: "index text %% header a %% data a %% header b %% data b". Oracle: an accepted
// folder can be read in full, and writing it again gives the same tensors.
namespace {

using namespace fettle;

void rewrite_and_compare(const io::TensorSource& source, const std::string& dir) {
  std::vector<io::TensorSpec> specs;
  for (const io::TensorEntry* e : source.entries()) {
    if (!e->dtype) return;
    specs.push_back({e->name, *e->dtype, e->shape});
  }
  const std::string target = dir + "/copy";
  OutputDir out(target, Overwrite::kYes);
  io::CheckpointWriter writer(out, specs, 64);
  for (const io::TensorSpec& s : specs) writer.write(s.name, source.get(s.name));
  writer.finish();
  out.commit();
  const io::TensorSource copy = io::TensorSource::open_directory(target);
  FUZZ_CHECK(copy.entries().size() == specs.size());
  for (const io::TensorSpec& s : specs) {
    const Tensor a = source.get(s.name), b = copy.get(s.name);
    FUZZ_CHECK(a.dtype() == b.dtype() && a.shape() == b.shape());
    FUZZ_CHECK(std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin(), b.bytes().end()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto p = fuzz::parts(fuzz::as_text(data, size), 5);
  const std::string dir = fuzz::scratch_dir();
  const auto piece = [&](size_t i) { return i < p.size() ? p[i] : std::string_view(); };
  fuzz::put_file(dir + "/model.safetensors.index.json", piece(0));
  fuzz::put_file(dir + "/a.safetensors", fuzz::safetensors_image(piece(1), piece(2)));
  fuzz::put_file(dir + "/b.safetensors", fuzz::safetensors_image(piece(3), piece(4)));
  fuzz::accepts([&] {
    const io::TensorSource source = io::TensorSource::open_directory(dir);
    for (const io::TensorEntry* e : source.entries())
      if (e->dtype) fuzz::touch(source.get(e->name).bytes());
    static int runs = 0;  // writing syncs to disk: now and then is enough
    if (runs++ % 16 == 0) rewrite_and_compare(source, dir);
  });
  return 0;
}
