// Runs a fuzz target once on every file of the folders and files given as arguments. Exit 1 without any input.
#include <cstdint>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kMaxInput = size_t{64} << 20;

size_t run_file(const std::string& path) {
  const std::string bytes = fettle::read_file(path, kMaxInput);
  std::fprintf(stderr, "%s\n", path.c_str());
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  size_t inputs = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string path = argv[i];
    if (!fettle::is_directory(path)) {
      inputs += run_file(path);
      continue;
    }
    for (const std::string& name : fettle::list_directory(path)) inputs += run_file(fettle::path_join(path, name));
  }
  std::fprintf(stderr, "%zu inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}
