// Uses a room of each low rank through the installed headers and libraries.
#include <cstdio>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tensor/weight.h"

int main() {
  try {
    // A weight matrix in the first 4-bit format that can be written, and back.
    const std::vector<float> values(64, 0.5f);
    for (const fettle::FormatInfo& format : fettle::all_formats()) {
      if (format.code_bits != 4 || format.encode == nullptr) continue;
      const fettle::PackedWeight packed = format.encode({values.data(), 1, values.size()}, {});
      const std::vector<float> back = fettle::decode(packed);
      std::printf("%s: %zu bytes, %g\n", std::string(format.name).c_str(), packed.bytes(), double{back.at(0)});
    }
    fettle::fail(fettle::ErrorCode::kInput, "expected {}", "this");
  } catch (const fettle::Error& error) {
    if (error.code() != fettle::ErrorCode::kInput) return 1;
    std::printf("consumer ok\n");
    return 0;
  }
}
