#include "io/hub_cache.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "io/model_files.h"

namespace fettle::io {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool plain_part(std::string_view text) {
  if (text.empty() || text.size() > 96 || text[0] == '.' || text[0] == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

// Revisions may hold slashes (refs/pr/3), but no step may climb.
bool plain_revision(std::string_view text) {
  while (true) {
    const size_t slash = text.find('/');
    if (!plain_part(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

std::string upper(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::string trimmed(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return text;
}

// "x-00002-of-00004.gguf" -> "x" and part 2; part 1 for unsplit names.
std::pair<std::string, int> split_stem(std::string_view name) {
  std::string stem(name.substr(0, name.size() - 5));
  constexpr size_t kTail = 15;  // -00001-of-00004
  if (stem.size() <= kTail) return {stem, 1};
  const std::string tail = stem.substr(stem.size() - kTail);
  const auto digits = [&](size_t at) {
    return std::all_of(tail.begin() + static_cast<ptrdiff_t>(at), tail.begin() + static_cast<ptrdiff_t>(at) + 5,
                       [](char c) { return c >= '0' && c <= '9'; });
  };
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !digits(1) || !digits(10)) return {stem, 1};
  int part = 0;
  std::from_chars(tail.data() + 1, tail.data() + 6, part);
  return {stem.substr(0, stem.size() - kTail), part};
}

}  // namespace

std::string hub_cache_dir() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (std::string dir = environment(name); !dir.empty()) return dir;
  std::string home = environment("HF_HOME");
  if (home.empty()) {
    std::string cache = environment("XDG_CACHE_HOME");
    if (cache.empty()) cache = path_join(environment("HOME"), ".cache");
    home = path_join(cache, "huggingface");
  }
  return path_join(home, "hub");
}

std::optional<HubId> parse_hub_id(std::string_view text) {
  if (text.starts_with("hf://")) text.remove_prefix(5);
  HubId id;
  id.revision = "main";
  if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    id.quant = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (!plain_part(id.quant)) return std::nullopt;
  }
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    id.revision = text.substr(at + 1);
    text = text.substr(0, at);
    if (!plain_revision(id.revision)) return std::nullopt;
  }
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  id.organisation = text.substr(0, slash);
  id.name = text.substr(slash + 1);
  if (!plain_part(id.organisation) || !plain_part(id.name)) return std::nullopt;
  return id;
}

std::string find_snapshot(const HubId& id, const std::string& cache) {
  const std::string label = id.organisation + "/" + id.name;
  const std::string repo = path_join(cache, "models--" + id.organisation + "--" + id.name);
  if (!is_directory(repo))
    fail(ErrorCode::kInput,
         "{}: no such file or folder, and not in the Hugging Face cache (looked for {}); download it first", label,
         repo);
  std::string commit = id.revision;
  const std::string ref = path_join(path_join(repo, "refs"), id.revision);
  if (file_exists(ref) && !is_directory(ref)) {
    commit = trimmed(read_file(ref, 256));
    require_base_name(commit, ref);
  }
  const std::string snapshot = path_join(path_join(repo, "snapshots"), commit);
  if (!is_directory(snapshot))
    fail(ErrorCode::kInput, "{}: revision \"{}\" is not in the Hugging Face cache (looked for {})", label, id.revision,
         snapshot);
  return snapshot;
}

std::string choose_gguf(const std::vector<std::string>& names, const std::string& quant, const std::string& source) {
  std::vector<std::pair<std::string, std::string>> models;  // upper-case stem without the split suffix, file name
  for (const std::string& name : names)
    if (const auto [stem, part] = split_stem(name); part == 1) models.emplace_back(upper(stem), name);
  const auto with_suffix = [&](const std::string& suffix) -> const std::string* {
    for (const auto& [stem, name] : models)
      if (stem.ends_with(suffix)) return &name;
    return nullptr;
  };
  if (!quant.empty()) {
    if (const std::string* name = with_suffix(upper(quant))) return *name;
    fail(ErrorCode::kInput, "{}: no GGUF file ends in \"{}\"; found {}", source, quant, fmt::join(names, ", "));
  }
  for (const char* preferred : {"Q4_K_M", "Q8_0"})
    if (const std::string* name = with_suffix(preferred)) return *name;
  if (models.empty())
    fail(ErrorCode::kInput, "{}: the first part of the split GGUF file is missing; found {}", source,
         fmt::join(names, ", "));
  return models.front().second;
}

}  // namespace fettle::io
