#include "compress/manifest.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "compress/sha256.h"

namespace fettle::compress {

std::vector<ManifestFile> write_manifest(const std::string& dir, Json job, std::span<const std::string> left_out) {
  std::vector<ManifestFile> files;
  Json list = Json::array();
  for (const std::string& name : list_directory(dir)) {
    const std::string path = path_join(dir, name);
    if (name == kManifestName || is_directory(path)) continue;
    if (std::find(left_out.begin(), left_out.end(), name) != left_out.end()) continue;
    ManifestFile f{name, sha256_file(path), MappedFile::open(path)->bytes().size()};
    Json entry = Json::object();
    entry["name"] = f.name;
    entry["bytes"] = f.bytes;
    entry["sha256"] = f.sha256;
    list.push_back(std::move(entry));
    files.push_back(std::move(f));
  }
  Json manifest = Json::object();
  manifest["tool"] = "fettle";
  manifest["job"] = std::move(job);
  manifest["files"] = std::move(list);
  write_file_atomic(path_join(dir, kManifestName), manifest.dump(2) + "\n");
  return files;
}

std::vector<std::string> verify_manifest(const std::string& dir) {
  const std::string path = path_join(dir, kManifestName);
  if (!file_exists(path)) fail(ErrorCode::kInput, "{}: expected a file written by fettle, found none", path);
  const Json json = parse_json_file(path);
  const JsonReader files = JsonReader(json, path).at("files");
  std::vector<std::string> problems;
  for (size_t i = 0; i < files.array().size(); ++i) {
    const JsonReader entry = files.at(i);
    const std::string& name = entry.at("name").string();
    require_base_name(name, path);
    const auto bytes = static_cast<uint64_t>(entry.at("bytes").integer(0));
    const std::string& want = entry.at("sha256").string();
    const std::string at = path_join(dir, name);
    if (!file_exists(at)) {
      problems.push_back(fmt::format("{}: missing", printable(name)));
    } else if (const uint64_t found = MappedFile::open(at)->bytes().size(); found != bytes) {
      problems.push_back(fmt::format("{}: expected {} bytes, found {}", printable(name), bytes, found));
    } else if (const std::string hash = sha256_file(at); hash != want) {
      problems.push_back(fmt::format("{}: expected sha256 {}, found {}", printable(name), printable(want), hash));
    }
  }
  return problems;
}

}  // namespace fettle::compress
