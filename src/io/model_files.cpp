#include "io/model_files.h"

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "io/hub_cache.h"

namespace fettle::io {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;

bool inside(const fs::path& file, const fs::path& dir) {
  auto f = file.begin();
  for (auto d = dir.begin(); d != dir.end(); ++d, ++f)
    if (f == file.end() || *f != *d) return false;
  return f != file.end();
}

// .../models--org--name/snapshots/COMMIT -> .../models--org--name/blobs; empty for any other folder.
fs::path hub_blobs(const fs::path& dir) {
  const fs::path snapshots = dir.parent_path();
  return snapshots.filename() == "snapshots" ? snapshots.parent_path() / "blobs" : fs::path();
}

std::vector<std::string> gguf_names(const std::string& dir) {
  std::vector<std::string> names;
  for (const std::string& name : list_directory(dir))
    if (name.ends_with(".gguf")) names.push_back(name);
  return names;
}

ModelFiles from_directory(const std::string& dir, const std::string& quant, Symlinks symlinks) {
  if (quant.empty() && file_exists(path_join(dir, "config.json")))
    return {ModelFiles::Kind::kHuggingFace, dir, symlinks};
  const std::vector<std::string> names = gguf_names(dir);
  if (names.empty())
    fail(ErrorCode::kInput, "{}: expected a model folder with {}, found {} files", dir,
         quant.empty() ? "config.json or a .gguf file" : "GGUF files", list_directory(dir).size());
  const std::string name = choose_gguf(names, quant, dir);
  return {ModelFiles::Kind::kGguf, checked_model_file(dir, name, symlinks), symlinks};
}

ModelFiles from_file(const std::string& path, Symlinks symlinks) {
  if (path.ends_with(".safetensors"))
    fail(ErrorCode::kInput, "{}: a single safetensors file has no config.json; give the folder that holds both", path);
  if (path.ends_with(".bin") || path.ends_with(".pt") || path.ends_with(".pth") || path.ends_with(".ckpt"))
    fail(ErrorCode::kInput, "{}: pickle checkpoints can run code and are never read; convert to safetensors", path);
  return {ModelFiles::Kind::kGguf, path, symlinks};
}

}  // namespace

std::string checked_model_file(const std::string& dir, std::string_view name, Symlinks symlinks) {
  require_base_name(name, dir);
  std::string path = path_join(dir, name);
  std::error_code ec;
  const fs::path real = fs::canonical(path, ec);
  if (ec) fail(ErrorCode::kInput, "{}: file \"{}\": missing ({})", dir, printable(name), ec.message());
  if (symlinks == Symlinks::kFollow) return path;
  const fs::path home = fs::canonical(dir, ec);
  if (ec) fail(ErrorCode::kIo, "{}: cannot resolve: {}", dir, ec.message());
  const fs::path blobs = hub_blobs(home);
  if (inside(real, home) || (!blobs.empty() && inside(real, blobs))) return path;
  fail(ErrorCode::kInput, "{}: symbolic link to \"{}\" leaves the model folder (use --follow-symlinks to allow it)",
       path, printable(real.string()));
}

std::optional<std::string> ModelFiles::find(std::string_view name) const {
  if (kind != Kind::kHuggingFace) return std::nullopt;
  require_base_name(name, path);
  std::error_code ec;
  if (!fs::exists(fs::symlink_status(path_join(path, name), ec))) return std::nullopt;
  return checked_model_file(path, name, symlinks);
}

std::string ModelFiles::at(std::string_view name) const {
  if (kind != Kind::kHuggingFace) fail(ErrorCode::kInput, "{}: a GGUF file has no \"{}\"", path, printable(name));
  return checked_model_file(path, name, symlinks);
}

Json read_config(const ModelFiles& files) {
  return parse_json_file(files.at("config.json"), {.max_bytes = kMaxConfigBytes});
}

Json read_generation_config(const ModelFiles& files) {
  const std::optional<std::string> path = files.find("generation_config.json");
  return path ? parse_json_file(*path, {.max_bytes = kMaxConfigBytes}) : Json();
}

ModelFiles resolve_model(const std::string& argument, Symlinks symlinks) {
  if (argument.empty()) fail(ErrorCode::kUsage, "MODEL: expected a folder, a .gguf file or a hub id, found nothing");
  if (is_directory(argument)) return from_directory(argument, "", symlinks);
  if (file_exists(argument)) return from_file(argument, symlinks);
  const std::optional<HubId> id = parse_hub_id(argument);
  if (!id)
    fail(ErrorCode::kInput, "{}: no such file or folder, and not a hub id of the form org/name[@revision]",
         printable(argument));
  return from_directory(find_snapshot(*id, hub_cache_dir()), id->quant, symlinks);
}

}  // namespace fettle::io
