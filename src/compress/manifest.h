#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"

namespace fettle::compress {

inline constexpr const char* kManifestName = "fettle-manifest.json";

struct ManifestFile {
  std::string name, sha256;
  uint64_t bytes = 0;
};

// Hashes every file of `dir` and writes fettle-manifest.json: {"tool", "job": job, "files": [{"name", "bytes",
// "sha256"}]}, names ascending, the manifest itself and `left_out` not among them. Call it last, before the folder gets
// its final name.
std::vector<ManifestFile> write_manifest(const std::string& dir, Json job, std::span<const std::string> left_out = {});

// Recomputes sizes and hashes. Returns one line per difference ("model.safetensors: expected sha256 ..., found ...");
// empty = everything as recorded. Throws kInput when the manifest is missing or malformed.
std::vector<std::string> verify_manifest(const std::string& dir);

}  // namespace fettle::compress
