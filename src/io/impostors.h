#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace fettle::io {

// Throws kInput with an own message when the bytes are something people mistake for weights: an empty file, a Git LFS
// pointer, an HTML page, a pickle or a zip archive (PyTorch .bin/.pt/.ckpt, which is never read), and, when
// `expected` is another container, safetensors in place of GGUF or the reverse. `expected` is "safetensors" or "GGUF".
void refuse_impostor(std::span<const std::byte> bytes, const std::string& path, const char* expected);

}  // namespace fettle::io
