#include <cstring>

#include "fuzz_util.h"
#include "io/gguf.h"

// Oracle: everything an accepted file offers can be read, lies inside the file, and its metadata written again has the
// same bytes.
namespace {

using namespace fettle;

void read_value(const io::GgufFile& file, const io::GgufValue& v) {
  const std::string key(v.key);
  fuzz::touch(v.raw);
  // Every getter either answers or refuses; none may do anything else.
  fuzz::accepts([&] { file.string(key); });
  fuzz::accepts([&] { file.integer(key, -10, 10); });
  fuzz::accepts([&] { file.number(key); });
  fuzz::accepts([&] { file.boolean(key); });
  fuzz::accepts([&] {
    for (const std::string_view s : file.strings(key)) fuzz::touch(std::as_bytes(std::span(s.data(), s.size())));
  });
  fuzz::accepts([&] { FUZZ_CHECK(file.integers(key).size() == v.count); });
  fuzz::accepts([&] { FUZZ_CHECK(file.numbers(key).size() == v.count); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  fuzz::accepts([&] {
    const io::GgufFile file = io::GgufFile::parse(bytes, "fuzz");
    io::GgufMetadata copy;
    for (const io::GgufValue& v : file.values()) {
      read_value(file, v);
      copy.copy(v);
    }
    FUZZ_CHECK(copy.encoded().size() <= size - 24 &&
               std::memcmp(copy.encoded().data(), data + 24, copy.encoded().size()) == 0);
    uint64_t end = 0;
    for (const io::TensorEntry& e : file.entries()) {
      FUZZ_CHECK(e.offset >= end && e.offset <= size && e.bytes <= size - e.offset);
      end = e.offset + e.bytes;
      const Tensor t = file.tensor(e.name);
      FUZZ_CHECK(t.nbytes() == e.bytes);
      fuzz::touch(t.bytes());
      io::GgufTensorSpec spec{e.name, e.ggml_type, e.shape};
      FUZZ_CHECK(spec.bytes() == e.bytes);
    }
  });
  return 0;
}
