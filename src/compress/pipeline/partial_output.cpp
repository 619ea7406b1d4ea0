#include "compress/pipeline/partial_output.h"

#include <charconv>
#include <filesystem>

#include "base/log.h"
#include "compress/checkpoint_files.h"
#include "compress/manifest.h"
#include "io/linear_writer.h"

namespace fettle::compress {
namespace {

constexpr const char* kStateName = "state.json";

std::string block_report_name(int block) { return fmt::format("block-{:05}.json", block); }

// Block number of a tensor or -1: the number after the first "layers.".
int block_of(std::string_view name) {
  const size_t at = name.find("layers.");
  if (at == std::string_view::npos || (at > 0 && name[at - 1] != '.')) return -1;
  int block = -1;
  const std::string_view rest = name.substr(at + 7);
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), block);
  return error == std::errc() && end != rest.data() && *end == '.' ? block : -1;
}

}  // namespace

PartialOutput::PartialOutput(const std::string& out, const CompressOptions& options, bool resume,
                             const io::ModelFiles& input, const io::TensorSource& source, const CompressPlan& plan,
                             const std::string& hash)
    : source_(source),
      dir_(out, options.overwrite, resume ? OutputDir::Resumable::kContinue : OutputDir::Resumable::kStart) {
  std::map<std::string, const LayerPlan*> by_tensor;
  for (const LayerPlan& layer : plan.layers) by_tensor[layer.module + ".weight"] = &layer;
  for (const io::TensorEntry* entry : source.entries()) blocks_ = std::max(blocks_, block_of(entry->name) + 1);
  shards_.resize(static_cast<size_t>(blocks_) + 1);
  for (const io::TensorEntry* entry : source.entries()) {
    std::vector<io::TensorSpec>& shard = shards_[static_cast<size_t>(block_of(entry->name) + 1)];
    if (const auto it = by_tensor.find(entry->name); it != by_tensor.end()) {
      for (io::TensorSpec& spec : io::linear_specs(it->second->module, it->second->stored))
        shard.push_back(std::move(spec));
    } else if (entry->dtype) {
      shard.push_back({entry->name, *entry->dtype, entry->shape});
    } else {
      fail(ErrorCode::kInput, "{}: tensor \"{}\" has type {}, which cannot be copied", source.file_of(entry->name),
           printable(entry->name), entry->type);
    }
  }
  const std::string state = dir_.file(kStateName);
  if (!file_exists(state))  // killed before it was written, or after commit() removed it: nothing here can be trusted
    for (const std::string& name : list_directory(dir_.path())) std::filesystem::remove_all(dir_.file(name));
  if (file_exists(state)) {
    const Json found = parse_json_file(state);
    if (JsonReader(found, state).at("hash").string() != hash)
      fail(ErrorCode::kInput,
           "{}: was started from another model, calibration text or other options; repeat them, or remove the folder",
           dir_.path());
    dir_.keep();
    for (const std::string& name : list_directory(dir_.path()))  // files that were being written
      if (name.find(".partial-") != std::string::npos) std::filesystem::remove_all(dir_.file(name));
    while (finished_ < blocks_ && file_exists(dir_.file(shard_name(finished_ + 1)))) ++finished_;
  }
  uint64_t needed = 0;
  for (size_t s = outside_written() ? static_cast<size_t>(finished_) + 1 : 0; s < shards_.size(); ++s)
    for (const io::TensorSpec& spec : shards_[s]) needed += spec.bytes();
  if (const uint64_t room = free_disk_bytes(dir_.path()); room < needed)
    fail(ErrorCode::kResource, "{}: needs {} bytes, the disk has {} free", dir_.path(), needed, room);
  write_index();
  if (file_exists(state)) return;
  copy_side_files(input, dir_.path());
  Json config = io::read_config(input);
  io::QuantSection section;
  for (const LayerPlan& layer : plan.layers) section.add(layer.module, layer.stored);
  for (const std::string& module : plan.dense) section.add(module, {});
  config["quantization_config"] = section.json();
  write_file_atomic(dir_.file("config.json"), config.dump(2) + "\n");
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
  std::filesystem::remove(dir_.file(kStateName));
  for (int b = 0; b < blocks_; ++b) std::filesystem::remove(dir_.file(block_report_name(b)));
  write_manifest(dir_.path(), std::move(description));
  dir_.commit();
}

}  // namespace fettle::compress
