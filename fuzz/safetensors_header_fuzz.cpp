#include <algorithm>
#include <cstring>

#include "base/json.h"
#include "fuzz_util.h"
#include "io/safetensors.h"

// Oracle: the verdict of the streaming header parser equals that of a slow validator over a JSON document, and every
// accepted tensor lies inside the file.
namespace {

using namespace fettle;

__extension__ typedef unsigned __int128 Wide;  // another way than the checked multiplication under test

struct Range {
  uint64_t begin, end;
};

unsigned bits_of(const std::string& dtype) {
  constexpr std::pair<const char*, unsigned> kBits[] = {
      {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},        {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"F64", 64},    {"I64", 64},    {"U64", 64},    {"C64", 64}};
  for (const auto& [name, bits] : kBits)
    if (dtype == name) return bits;
  return 0;
}

// An integer in [0, 2^64), or nothing.
bool as_u64(const Json& v, uint64_t* out) {
  if (!v.is_integer() || (v.type() == Json::Type::kInt && v.as_int() < 0)) return false;
  *out = v.as_uint();
  return true;
}

bool slow_entry(const Json& v, Range* range) {
  const Json *dtype = v.find("dtype"), *shape = v.find("shape"), *offsets = v.find("data_offsets");
  if (!dtype || !shape || !offsets || !dtype->is_string() || !shape->is_array() || !offsets->is_array()) return false;
  if (offsets->size() != 2 || shape->size() > 8) return false;
  if (!as_u64((*offsets)[0], &range->begin) || !as_u64((*offsets)[1], &range->end) || range->begin > range->end)
    return false;
  const unsigned bits = bits_of(dtype->as_string());
  if (bits == 0) return false;
  Wide elements = 1;
  for (const Json& dim : shape->as_array()) {
    uint64_t n = 0;
    if (!as_u64(dim, &n) || n > static_cast<uint64_t>(INT64_MAX)) return false;
    elements *= n;
    if (elements > UINT64_MAX) return false;
  }
  const Wide total = elements * bits;
  return total <= UINT64_MAX && total % 8 == 0 && total / 8 == range->end - range->begin;
}

bool slow_accepts(std::string_view file) {
  if (file.size() < 8) return false;
  uint64_t n = 0;
  std::memcpy(&n, file.data(), 8);
  if (n > file.size() - 8 || n > 100'000'000) return false;
  const std::string_view text = file.substr(8, n);
  if (text.empty() || text[0] != '{') return false;
  Json header;
  try {
    header = parse_json(text, "oracle", {.max_bytes = 100'000'000, .max_depth = 32});
  } catch (const Error&) {
    return false;
  }
  std::vector<Range> ranges;
  for (const auto& [name, value] : header.as_object()) {
    if (name == "__metadata__") {
      if (!value.is_object() || value.size() > 65536) return false;
      for (const auto& [key, text_value] : value.as_object())
        if (!text_value.is_string()) return false;
      continue;
    }
    Range r{};
    if (name.size() > 1024 || !value.is_object() || !slow_entry(value, &r)) return false;
    ranges.push_back(r);
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  uint64_t at = 0;
  for (const Range& r : ranges) {
    if (r.begin != at) return false;
    at = r.end;
  }
  return at == file.size() - 8 - n;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // First byte even: a whole file follows. Odd: header text, separator, data; the length field is made to fit.
  const std::string_view input = fuzz::as_text(data + 1, size - 1);
  const auto pieces = fuzz::parts(input, 2);
  const std::string image =
      data[0] % 2 == 0 ? std::string(input) : fuzz::safetensors_image(pieces[0], pieces.size() > 1 ? pieces[1] : "");
  const std::span<const std::byte> bytes = std::as_bytes(std::span(image));
  io::SafetensorsHeader header;
  const bool accepted = fuzz::accepts([&] { header = io::parse_safetensors(bytes, "fuzz"); });
  const bool impostor =
      image.starts_with("version https://git-lfs") || image.starts_with("PK\x03\x04") || image.starts_with("GGUF");
  if (impostor || image.size() < 9) return 0;
  FUZZ_CHECK(accepted == slow_accepts(image));
  for (const io::TensorEntry& e : header.entries) {
    FUZZ_CHECK(e.offset <= image.size() && e.bytes <= image.size() - e.offset);
    fuzz::touch(bytes.subspan(e.offset, e.bytes));
  }
  return 0;
}
