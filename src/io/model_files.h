#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace fettle::io {

enum class Symlinks : uint8_t {
  kInside,  // targets inside the folder, or in the `blobs` folder of the Hugging Face cache layout
  kFollow,  // anywhere (--follow-symlinks)
};

// Where a MODEL argument leads: a Hugging Face directory or one GGUF file (the first part of a split one).
struct ModelFiles {
  enum class Kind : uint8_t { kHuggingFace, kGguf };
  Kind kind = Kind::kHuggingFace;
  std::string path;  // directory or .gguf file
  Symlinks symlinks = Symlinks::kInside;

  // Full path of a file of the directory, or nullopt when it is not there. Throws kInput when the name is not a plain
  // file name or the file is a link that leaves the folder.
  std::optional<std::string> find(std::string_view name) const;
  // The same, but absent is kInput.
  std::string at(std::string_view name) const;
};

// MODEL = Hugging Face directory | .gguf file | directory with GGUF files only | hub id org/name[@revision][:QUANT]
// (also hf://org/name) present in the local Hugging Face cache. Never downloads. An existing path wins over a hub id.
// QUANT picks among the GGUF files of a repository by case-insensitive suffix (default Q4_K_M, else Q8_0, else the
// first). Throws kInput saying what was looked for and where.
ModelFiles resolve_model(const std::string& argument, Symlinks symlinks = Symlinks::kInside);

// The cache that Python tools share: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, with HF_HOME defaulting to
// ${XDG_CACHE_HOME:-~/.cache}/huggingface.
std::string hub_cache_dir();

// config.json (required, at most 4 MiB) and generation_config.json (null when absent) of a directory.
Json read_config(const ModelFiles& files);
Json read_generation_config(const ModelFiles& files);

// Full path of dir/name after the symbolic-link rules; the file must exist. See ModelFiles::at.
std::string checked_model_file(const std::string& dir, std::string_view name, Symlinks symlinks);

}  // namespace fettle::io
