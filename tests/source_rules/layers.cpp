#include "layers.h"

#include <fmt/format.h>

#include <optional>
#include <sstream>
#include <stdexcept>

namespace source_rules {
namespace fs = std::filesystem;
namespace {

using Ranks = std::map<std::string, int, std::less<>>;

std::string first_part(const fs::path& path) { return path.begin()->string(); }

// Why `from` may not use `to`; nothing when it may.
std::optional<std::string> forbidden(const Ranks& ranks, std::string_view from, std::string_view to) {
  const auto a = ranks.find(from), b = ranks.find(to);
  if (from == to || a == ranks.end() || b == ranks.end() || b->second < a->second) return std::nullopt;
  return fmt::format("room {} (rank {}) may not use room {} (rank {}): only its own and lower ranks", from, a->second,
                     to, b->second);
}

// Whether the file exists is the compiler's business.
std::optional<std::string> include_problem(const Ranks& ranks, const fs::path& file, const Include& include) {
  const fs::path target(include.path);
  for (const fs::path& part : target)
    if (part == "..") return fmt::format("include of \"{}\": write the path from src/", include.path);
  if (!target.has_parent_path()) return std::nullopt;
  return forbidden(ranks, first_part(file), first_part(target));
}

// DEPS of the fettle_room() call in a room's CMakeLists.txt.
std::vector<std::string> cmake_deps(const fs::path& file) {
  std::istringstream words(read_text(file));
  std::vector<std::string> deps;
  bool inside = false;
  for (std::string word; words >> word;) {
    const bool closes = word.ends_with(')');
    if (closes) word.pop_back();
    if (inside && !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos)
      deps.push_back(word);
    else
      inside = word == "DEPS";
    if (closes) inside = false;
  }
  return deps;
}

}  // namespace

std::map<std::string, int, std::less<>> parse_layers(std::string_view text) {
  Ranks ranks;
  std::istringstream lines{std::string(text)};
  int rank = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream rooms(line);
    bool any = false;
    for (std::string room; rooms >> room; any = true)
      if (!ranks.emplace(room, rank).second) throw std::runtime_error("LAYERS: room " + room + " is listed twice");
    rank += any ? 1 : 0;
  }
  return ranks;
}

std::vector<Violation> check_layers(const fs::path& src) {
  const Ranks ranks = parse_layers(read_text(src / "LAYERS"));
  std::vector<Violation> found;
  for (const auto& entry : fs::directory_iterator(src)) {
    const std::string room = entry.path().filename().string();
    if (!entry.is_directory()) continue;
    if (!ranks.contains(room)) found.push_back({room, 0, "this room has no rank in LAYERS"});
    if (!fs::exists(entry.path() / "CMakeLists.txt")) continue;
    for (const std::string& dep : cmake_deps(entry.path() / "CMakeLists.txt")) {
      if (!ranks.contains(dep))
        found.push_back({room + "/CMakeLists.txt", 0, fmt::format("DEPS names {}, which has no rank", dep)});
      else if (auto why = forbidden(ranks, room, dep))
        found.push_back({room + "/CMakeLists.txt", 0, *why});
    }
  }
  for (const fs::path& file : cpp_files(src))
    for (const Include& include : includes_of(read_text(src / file)))
      if (auto why = include_problem(ranks, file, include)) found.push_back({file.string(), include.line, *why});
  return found;
}

}  // namespace source_rules
