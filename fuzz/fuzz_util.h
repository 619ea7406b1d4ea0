#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

// Shared by the fuzz targets.
namespace fettle::fuzz {

// A broken promise: everything else a target throws must be a refusal.
#define FUZZ_CHECK(cond)                                                              \
  do {                                                                                \
    if (!(cond)) {                                                                    \
      std::fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #cond); \
      std::abort();                                                                   \
    }                                                                                 \
  } while (0)

inline void quiet() {
  static const bool done = [] {
    set_log_level(LogLevel::kQuiet);
    return true;
  }();
  (void)done;
}

// Runs f; true when it returned, false when it refused with an Error. kInternal is our own mistake, hence a finding.
template <typename F>
bool accepts(F f) {
  quiet();
  try {
    f();
    return true;
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInternal) std::fprintf(stderr, "%s\n", e.what());
    FUZZ_CHECK(e.code() != ErrorCode::kInternal);
    return false;
  }
}

inline std::string_view as_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Cuts the input at the separator line "\n%%\n" into at most `most` parts.
inline std::vector<std::string_view> parts(std::string_view input, size_t most) {
  constexpr std::string_view kCut = "\n%%\n";
  std::vector<std::string_view> out;
  while (out.size() + 1 < most) {
    const size_t at = input.find(kCut);
    if (at == std::string_view::npos) break;
    out.push_back(input.substr(0, at));
    input.remove_prefix(at + kCut.size());
  }
  out.push_back(input);
  return out;
}

// A header text and its data as a safetensors image, so that mutations of the text keep a valid length field.
inline std::string safetensors_image(std::string_view header, std::string_view data) {
  std::string out;
  for (uint64_t n = header.size(), i = 0; i < 8; ++i) out += static_cast<char>(n >> (8 * i));
  out.append(header).append(data);
  return out;
}

// One scratch folder per process, in memory where the system has that.
inline const std::string& scratch_dir() {
  static const std::string dir = [] {
    const char* base = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
    std::string name = std::string(base) + "/fettle-fuzz-XXXXXX";
    FUZZ_CHECK(::mkdtemp(name.data()) != nullptr);
    static std::string keep = name;
    std::atexit([] {
      std::error_code ec;
      std::filesystem::remove_all(keep, ec);
    });
    return name;
  }();
  return dir;
}

inline void put_file(const std::string& path, std::string_view content) {
  std::FILE* f = std::fopen(path.c_str(), "wb");
  FUZZ_CHECK(f != nullptr);
  FUZZ_CHECK(std::fwrite(content.data(), 1, content.size(), f) == content.size());
  FUZZ_CHECK(std::fclose(f) == 0);
}

// Reads every byte, so that sanitizers see it.
inline void touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte b : bytes) sum += static_cast<unsigned>(b);
  volatile unsigned sink = sum;
  (void)sink;
}

}  // namespace fettle::fuzz
