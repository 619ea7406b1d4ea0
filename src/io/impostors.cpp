#include "io/impostors.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/error.h"

namespace fettle::io {
namespace {

bool looks_like_html(std::string_view head) {
  std::string lower;
  for (const char c : head) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const size_t start = lower.find_first_not_of(" \t\r\n");
  if (start == std::string::npos) return false;
  const std::string_view text = std::string_view(lower).substr(start);
  return text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<head") ||
         text.starts_with("<?xml");
}

}  // namespace

void refuse_impostor(std::span<const std::byte> bytes, const std::string& path, const char* expected) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 128));
  const auto refuse = [&](const char* found, const char* hint) {
    fail(ErrorCode::kInput, "{}: expected {}, found {} ({})", path, expected, found, hint);
  };
  if (head.empty()) refuse("an empty file", "the download or copy did not finish");
  if (head.starts_with("version https://git-lfs.github.com/spec/"))
    refuse("a Git LFS pointer", "run \"git lfs pull\" to fetch the real file");
  if (looks_like_html(head)) refuse("an HTML page", "a download saved an error or login page in place of the file");
  if (head.starts_with("PK\x03\x04"))
    refuse("a zip archive", "PyTorch checkpoints (.bin, .pt, .ckpt) are never read; convert to safetensors");
  if (head.size() >= 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5 &&
      head.find("\x00\x00\x00\x00\x00\x00", 2, 6) != 2)
    refuse("a Python pickle",
           "pickle checkpoints (.bin, .pt, .ckpt) can run code and are never read; convert to safetensors");
  if (expected != std::string_view("GGUF") && head.starts_with("GGUF"))
    refuse("a GGUF file", "give it the .gguf suffix");
}

}  // namespace fettle::io
