// Strict JSON: accepted text is written back and read again as the same value.
#include "base/json.h"
#include "fuzz_util.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fettle;
  Json value;
  if (!fuzz::accepts([&] { value = parse_json(fuzz::as_text(data, size), "input"); })) return 0;
  const std::string text = value.dump();
  FUZZ_CHECK(parse_json(text, "rewritten").dump() == text);
  return 0;
}
