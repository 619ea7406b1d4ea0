#include "io/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <variant>

#include "base/error.h"
#include "base/log.h"

namespace fettle::io {
namespace {

constexpr size_t kMaxIndexBytes = size_t{64} << 20;
constexpr size_t kMaxShards = 10'000;

using Container = std::variant<SafetensorsFile, GgufFile>;

std::span<const TensorEntry> entries_of(const Container& c) {
  return std::visit([](const auto& file) { return file.entries(); }, c);
}
const std::string& path_of(const Container& c) {
  return std::visit([](const auto& file) -> const std::string& { return file.path(); }, c);
}

}  // namespace

struct TensorSource::State {
  struct Place {
    const TensorEntry* entry;
    const Container* container;
  };
  std::string path;
  std::vector<Container> containers;  // never resized after index()
  std::vector<Place> places;          // sorted by name

  void index() {
    for (const Container& c : containers)
      for (const TensorEntry& e : entries_of(c)) places.push_back({&e, &c});
    std::sort(places.begin(), places.end(),
              [](const Place& a, const Place& b) { return a.entry->name < b.entry->name; });
    for (size_t i = 1; i < places.size(); ++i)
      if (places[i].entry->name == places[i - 1].entry->name)
        fail(ErrorCode::kInput, "{}: tensor \"{}\": found in two files, {} and {}", path,
             printable(places[i].entry->name), base_name(path_of(*places[i - 1].container)),
             base_name(path_of(*places[i].container)));
  }
  const Place* find(std::string_view name) const {
    const auto it = std::lower_bound(places.begin(), places.end(), name,
                                     [](const Place& p, std::string_view n) { return p.entry->name < n; });
    return it != places.end() && it->entry->name == name ? &*it : nullptr;
  }
  const Place& at(std::string_view name) const {
    const Place* place = find(name);
    if (!place) fail(ErrorCode::kInput, "{}: tensor \"{}\": missing", path, printable(name));
    return *place;
  }
};

namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";

// Shards in the order of first use, after checking the index itself.
std::vector<std::string> shard_names(const JsonReader& index) {
  std::set<std::string> names;
  const JsonReader map = index.at("weight_map");
  for (const auto& [tensor, file] : map.object()) {
    const std::string& name = map.get(tensor).string();
    if (!names.insert(name).second) continue;
    require_base_name(name, fmt::format("{}: weight_map: tensor \"{}\"", index.source(), printable(tensor)));
    if (names.size() > kMaxShards) index.fail_here(fmt::format("weight_map names more than {} files", kMaxShards));
  }
  if (names.empty()) map.fail_expected("at least one tensor");
  return {names.begin(), names.end()};
}

// Every tensor of the index is in the shard it names; a wrong total_size is only worth a warning, since writers that
// count tied weights twice are common.
void check_index(const JsonReader& index, const std::vector<Container>& shards) {
  uint64_t total = 0;
  std::map<std::string, const SafetensorsFile*> by_name;
  for (const Container& c : shards) {
    const auto& file = std::get<SafetensorsFile>(c);
    by_name.emplace(base_name(file.path()), &file);
    for (const TensorEntry& e : file.entries()) total += e.bytes;
  }
  for (const auto& [tensor, file] : index.at("weight_map").object()) {
    const auto shard = by_name.find(file.as_string());
    if (shard == by_name.end() || !shard->second->find(tensor))
      fail(ErrorCode::kInput, "{}: weight_map: tensor \"{}\" is not in {}", index.source(), printable(tensor),
           printable(file.as_string()));
  }
  const JsonReader metadata = index.get("metadata");
  if (metadata.is_null() || !metadata.has("total_size")) return;
  const double declared = metadata.get("total_size").number(0);
  if (declared != static_cast<double>(total))
    log_warning("{}: metadata.total_size: expected {}, found {}", index.source(), total, declared);
}

std::vector<Container> open_shards(const std::string& dir, Symlinks symlinks) {
  const std::string index_path = checked_model_file(dir, kIndexName, symlinks);
  const Json json = parse_json_file(index_path, {.max_bytes = kMaxIndexBytes});
  const JsonReader index(json, index_path);
  std::vector<Container> shards;
  for (const std::string& name : shard_names(index)) {
    if (!file_exists(path_join(dir, name)))
      fail(ErrorCode::kInput, "{}: shard \"{}\": missing, named by the index", dir, printable(name));
    shards.emplace_back(SafetensorsFile::open(checked_model_file(dir, name, symlinks)));
  }
  check_index(index, shards);
  return shards;
}

[[noreturn]] void no_weights(const std::string& dir) {
  std::vector<std::string> pickles, others;
  for (const std::string& name : list_directory(dir)) {
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".ckpt"))
      pickles.push_back(name);
    if (name.ends_with(".safetensors")) others.push_back(name);
  }
  if (!pickles.empty())
    fail(ErrorCode::kInput,
         "{}: expected model.safetensors, found {}: pickle weights can run code and are never read; convert to "
         "safetensors",
         dir, printable(pickles.front()));
  fail(ErrorCode::kInput, "{}: expected model.safetensors or {}, found {}", dir, kIndexName,
       others.empty() ? "neither" : printable(others.front()));
}

// "m-00001-of-00003.gguf" -> "m-00002-of-00003.gguf"
std::string split_name(const std::string& first, int64_t part, int64_t count, const std::string& path) {
  const std::string tail = fmt::format("-00001-of-{:05}.gguf", count);
  if (!first.ends_with(tail))
    fail(ErrorCode::kInput,
         "{}: key \"split.count\" is {}: expected a file name ending in \"{}\" (open the first part)", path, count,
         tail);
  return fmt::format("{}-{:05}-of-{:05}.gguf", first.substr(0, first.size() - tail.size()), part, count);
}

std::vector<Container> open_gguf_parts(const std::string& path, Symlinks symlinks) {
  GgufFile first = GgufFile::open(path);
  std::vector<Container> parts;
  const int64_t count = first.integer_or("split.count", 1, 0, static_cast<int64_t>(kMaxShards));
  parts.emplace_back(first);
  if (count <= 1) return parts;
  const size_t slash = path.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  uint64_t tensors = first.entries().size();
  for (int64_t part = 2; part <= count; ++part) {
    const std::string name = split_name(base_name(path), part, count, path);
    GgufFile file = GgufFile::open(checked_model_file(dir, name, symlinks));
    if (file.integer_or("split.no", -1) != part - 1)
      fail(ErrorCode::kInput, "{}: key \"split.no\": expected {}, found {}", file.path(), part - 1,
           file.integer_or("split.no", -1));
    tensors += file.entries().size();
    parts.emplace_back(std::move(file));
  }
  const int64_t declared = first.integer_or("split.tensors.count", static_cast<int64_t>(tensors));
  if (declared != static_cast<int64_t>(tensors))
    fail(ErrorCode::kInput, "{}: key \"split.tensors.count\": expected {} (sum over {} parts), found {}", path, tensors,
         count, declared);
  return parts;
}

}  // namespace

TensorSource TensorSource::open(const ModelFiles& files) {
  return files.kind == ModelFiles::Kind::kGguf ? open_gguf(files.path, files.symlinks)
                                               : open_directory(files.path, files.symlinks);
}

TensorSource TensorSource::open_directory(const std::string& dir, Symlinks symlinks) {
  auto state = std::make_shared<State>();
  state->path = dir;
  const bool single = file_exists(path_join(dir, "model.safetensors"));
  const bool sharded = file_exists(path_join(dir, kIndexName));
  if (!single && !sharded) no_weights(dir);
  if (single) {
    if (sharded) log_warning("{}: both model.safetensors and an index; the single file is used", dir);
    state->containers.emplace_back(SafetensorsFile::open(checked_model_file(dir, "model.safetensors", symlinks)));
  } else {
    state->containers = open_shards(dir, symlinks);
  }
  state->index();
  TensorSource out;
  out.state_ = std::move(state);
  return out;
}

TensorSource TensorSource::open_gguf(const std::string& path, Symlinks symlinks) {
  auto state = std::make_shared<State>();
  state->path = path;
  state->containers = open_gguf_parts(path, symlinks);
  state->index();
  TensorSource out;
  out.state_ = std::move(state);
  return out;
}

bool TensorSource::is_gguf() const { return std::holds_alternative<GgufFile>(state_->containers.front()); }

const GgufFile& TensorSource::gguf() const {
  FETTLE_CHECK(is_gguf());
  return std::get<GgufFile>(state_->containers.front());
}

const std::string& TensorSource::path() const { return state_->path; }

std::vector<const TensorEntry*> TensorSource::entries() const {
  std::vector<const TensorEntry*> out;
  out.reserve(state_->places.size());
  for (const auto& place : state_->places) out.push_back(place.entry);
  return out;
}

const TensorEntry* TensorSource::find(std::string_view name) const {
  const auto* place = state_->find(name);
  return place ? place->entry : nullptr;
}

const TensorEntry& TensorSource::at(std::string_view name) const { return *state_->at(name).entry; }
const std::string& TensorSource::file_of(std::string_view name) const { return path_of(*state_->at(name).container); }

Tensor TensorSource::get(std::string_view name) const {
  return std::visit([&](const auto& file) { return file.tensor(name); }, *state_->at(name).container);
}

void TensorSource::release(std::string_view name) const {
  if (const auto* place = state_->find(name))
    std::visit([&](const auto& file) { file.release(*place->entry); }, *place->container);
}

uint64_t TensorSource::total_bytes() const {
  uint64_t total = 0;
  for (const auto& place : state_->places) total += place.entry->bytes;
  return total;
}

}  // namespace fettle::io
