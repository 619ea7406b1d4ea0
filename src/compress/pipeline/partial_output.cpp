#include "compress/pipeline/partial_output.h"

#include <filesystem>

#include "base/log.h"
#include "compress/checkpoint_files.h"
#include "compress/manifest.h"

namespace fettle::compress {
namespace {

constexpr const char* kStateName = "state.json";

std::string block_report_name(int block) { return fmt::format("block-{:05}.json", block); }

}  // namespace

PartialOutput::PartialOutput(const std::string& out, const CompressOptions& options, bool resume,
                             const io::ModelFiles& input, const io::TensorSource& source, const CompressPlan& plan,
                             const std::string& hash)
    : source_(source),
      dir_(out, options.overwrite, resume ? OutputDir::Resumable::kContinue : OutputDir::Resumable::kStart) {
  const auto by_tensor = layers_by_tensor(plan);
  for (const io::TensorEntry* entry : source.entries()) blocks_ = std::max(blocks_, block_of(entry->name) + 1);
  shards_.resize(static_cast<size_t>(blocks_) + 1);
  for (const io::TensorEntry* entry : source.entries()) {
    const auto it = by_tensor.find(entry->name);
    for (io::TensorSpec& spec : stored_specs(source, *entry, it == by_tensor.end() ? nullptr : it->second))
      shards_[static_cast<size_t>(block_of(entry->name) + 1)].push_back(std::move(spec));
  }
  open_state(hash);
  uint64_t needed = 0;
  for (size_t s = outside_written() ? static_cast<size_t>(finished_) + 1 : 0; s < shards_.size(); ++s)
    for (const io::TensorSpec& spec : shards_[s]) needed += spec.bytes();
  if (const uint64_t room = free_disk_bytes(dir_.path()); room < needed)
    fail(ErrorCode::kResource, "{}: needs {} bytes, the disk has {} free", dir_.path(), needed, room);
  write_index();
  if (file_exists(dir_.file("config.json"))) return;  // written behind the side files
  copy_side_files(input, dir_.path());
  write_quantised_config(input, plan, dir_.path());
}

void PartialOutput::open_state(const std::string& hash) {
  const std::string state = dir_.file(kStateName);
  if (file_exists(state)) {
    const Json found = parse_json_file(state);
    if (JsonReader(found, state).at("hash").string() != hash)
      fail(ErrorCode::kInput,
           "{}: was started from another model, calibration text or other options; repeat them, or remove the folder",
           dir_.path());
    for (const std::string& name : list_directory(dir_.path()))  // files that were being written
      if (name.find(".partial-") != std::string::npos) std::filesystem::remove_all(dir_.file(name));
    while (finished_ < blocks_ && file_exists(dir_.file(shard_name(finished_ + 1)))) ++finished_;
    return;
  }
  // The state is the first file of a run and goes just before the folder is renamed, so a folder without it is not ours
  // to clear.
  for (const std::string& name : list_directory(dir_.path()))
    if (!name.starts_with(std::string(kStateName) + ".partial-"))
      fail(ErrorCode::kInput,
           "{}: expected {} of an unfinished run, found a folder without it; remove the folder (when it holds {} the "
           "run was complete: rename it)",
           dir_.path(), kStateName, kManifestName);
  Json start = Json::object();
  start["hash"] = hash;
  write_file_atomic(state, start.dump(2) + "\n");
}

std::string PartialOutput::shard_name(int shard) const {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, blocks_ + 1);
}

void PartialOutput::write_index() const {
  uint64_t total = 0;
  std::map<std::string, std::string> files;
  for (size_t s = 0; s <= static_cast<size_t>(finished_); ++s)
    for (const io::TensorSpec& spec : shards_[s]) {
      files[spec.name] = shard_name(static_cast<int>(s));
      total += spec.bytes();
    }
  Json index = Json::object();
  index["metadata"] = Json::object();
  index["metadata"]["total_size"] = total;
  Json& map = index["weight_map"] = Json::object();
  for (const auto& [name, file] : files) map.as_object().emplace_back(name, file);
  write_file_atomic(dir_.file("model.safetensors.index.json"), index.dump(2) + "\n");
}

bool PartialOutput::outside_written() const { return file_exists(dir_.file(shard_name(0))); }

Json PartialOutput::block_report(int block) const { return parse_json_file(dir_.file(block_report_name(block))); }

void PartialOutput::write_shard(int shard, const std::map<std::string, Tensor>& replaced) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const io::TensorSpec& spec : shards_[static_cast<size_t>(shard)]) {
    const auto it = replaced.find(spec.name);
    tensors.emplace_back(spec.name, it != replaced.end() ? it->second : source_.get(spec.name));
    FETTLE_CHECK(tensors.back().second.dtype() == spec.dtype && tensors.back().second.shape() == spec.shape);
  }
  io::write_safetensors(dir_.file(shard_name(shard)), tensors);
  for (const io::TensorSpec& spec : shards_[static_cast<size_t>(shard)]) source_.release(spec.name);
}

void PartialOutput::write_outside(const std::map<std::string, Tensor>& replaced) { write_shard(0, replaced); }

void PartialOutput::write_block(int block, const std::map<std::string, Tensor>& replaced, const Json& report) {
  FETTLE_CHECK(block == finished_);
  write_file_atomic(dir_.file(block_report_name(block)), report.dump() + "\n");
  write_shard(block + 1, replaced);
  ++finished_;
  write_index();
  dir_.keep();
}

void PartialOutput::commit(Json description) {
  std::vector<std::string> state;
  for (int b = 0; b < blocks_; ++b) state.push_back(block_report_name(b));
  state.push_back(kStateName);
  write_manifest(dir_.path(), std::move(description), state);
  for (const std::string& name : state) std::filesystem::remove(dir_.file(name));
  dir_.commit();
}

}  // namespace fettle::compress
