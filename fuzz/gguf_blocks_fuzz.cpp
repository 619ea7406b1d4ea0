#include <bit>
#include <cmath>

#include "fuzz_util.h"
#include "tensor/formats/gguf_blocks.h"

// Oracle: unpacking blocks and decoding the canonical weight equals the reference decoder bit for bit (NaN as NaN), and
// packing the canonical weight again decodes to the same values.
namespace {

using namespace fettle;

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto types = formats::gguf_blocks();
  const formats::GgufBlock& type = types[data[0] % types.size()];
  const int64_t rows = 1 + data[1] % 3;
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
  const size_t blocks =
      std::min<size_t>(bytes.size() / type.bytes / static_cast<size_t>(rows), 1024 / type.elements + 1);
  if (blocks == 0) return 0;
  const auto cols = static_cast<int64_t>(blocks * type.elements);
  const size_t row_bytes = blocks * type.bytes;
  fuzz::accepts([&] {
    const PackedWeight w =
        formats::from_gguf_blocks(type.ggml_type, rows, cols, bytes.first(row_bytes * static_cast<size_t>(rows)));
    std::vector<float> reference(static_cast<size_t>(cols)), canonical(reference);
    for (int64_t r = 0; r < rows; ++r) {
      formats::decode_gguf_row(type.ggml_type, bytes.data() + static_cast<size_t>(r) * row_bytes, reference);
      decode_row(w, r, canonical);
      for (size_t i = 0; i < reference.size(); ++i) FUZZ_CHECK(same(reference[i], canonical[i]));
    }
    const std::vector<std::byte> again = formats::to_gguf_blocks(w);
    FUZZ_CHECK(again.size() == row_bytes * static_cast<size_t>(rows));
    for (int64_t r = 0; r < rows; ++r) {
      formats::decode_gguf_row(type.ggml_type, again.data() + static_cast<size_t>(r) * row_bytes, reference);
      decode_row(w, r, canonical);
      for (size_t i = 0; i < reference.size(); ++i) FUZZ_CHECK(same(reference[i], canonical[i]));
    }
  });
  return 0;
}
