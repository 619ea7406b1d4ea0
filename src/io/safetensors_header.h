#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fettle::io {

// One header entry as written, types checked, nothing computed yet.
struct RawSafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;
};

struct RawSafetensorsHeader {
  std::vector<RawSafetensorsEntry> entries;
  std::vector<std::pair<std::string, std::string>> metadata;
};

// Parses the JSON text of a header without building a document, so that memory stays proportional to the number of
// real entries. Unknown keys inside an entry are skipped. Throws kInput naming `path`, tensor and field.
RawSafetensorsHeader parse_safetensors_json(std::string_view text, const std::string& path);

}  // namespace fettle::io
