#include "io/checkpoint_writer.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"

namespace fettle::io {

// Planned until the first tensor arrives, open until the last one has.
struct CheckpointWriter::Shard {
  std::string file_name;
  std::vector<TensorSpec> specs;
  size_t left = 0;
  std::unique_ptr<FileWriter> out;
  std::unique_ptr<SafetensorsWriter> writer;

  void open(const OutputDir& dir) {
    out = std::make_unique<FileWriter>(dir.file(file_name));
    writer = std::make_unique<SafetensorsWriter>(*out, std::move(specs));
  }
  void close() {
    writer->finish();
    out->close();
    writer.reset();
    out.reset();
  }
};

CheckpointWriter::CheckpointWriter(const OutputDir& dir, std::vector<TensorSpec> tensors, uint64_t max_shard_bytes)
    : dir_(dir) {
  uint64_t in_shard = 0;
  for (TensorSpec& spec : tensors) {
    const uint64_t bytes = spec.bytes();
    const bool full = !shards_.empty() && !shards_.back()->specs.empty() &&
                      bytes > max_shard_bytes - std::min(in_shard, max_shard_bytes);
    if (shards_.empty() || full) {
      shards_.push_back(std::make_unique<Shard>());
      in_shard = 0;
    }
    if (!checked_add(total_bytes_, bytes, &total_bytes_)) fail(ErrorCode::kInput, "checkpoint: size overflows");
    in_shard += bytes;
    shard_index_.emplace_back(spec.name, shards_.size() - 1);
    shards_.back()->specs.push_back(std::move(spec));
    ++shards_.back()->left;
  }
  if (shards_.empty()) shards_.push_back(std::make_unique<Shard>());
  std::sort(shard_index_.begin(), shard_index_.end());
  for (size_t i = 1; i < shard_index_.size(); ++i)
    if (shard_index_[i].first == shard_index_[i - 1].first)
      fail(ErrorCode::kInput, "tensor \"{}\": announced twice", printable(shard_index_[i].first));
  for (size_t i = 0; i < shards_.size(); ++i)
    shards_[i]->file_name = shards_.size() == 1
                                ? "model.safetensors"
                                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards_.size());
  if (const uint64_t free = free_disk_bytes(dir.path()); free < total_bytes_)
    fail(ErrorCode::kResource, "{}: needs {} bytes, the disk has {} free", dir.path(), total_bytes_, free);
}

CheckpointWriter::~CheckpointWriter() = default;

CheckpointWriter::Shard& CheckpointWriter::shard_of(const std::string& name) {
  const auto it = std::lower_bound(shard_index_.begin(), shard_index_.end(), name,
                                   [](const auto& p, const std::string& n) { return p.first < n; });
  if (it == shard_index_.end() || it->first != name)
    fail(ErrorCode::kInternal, "checkpoint writer: tensor \"{}\" was not announced", printable(name));
  return *shards_[it->second];
}

void CheckpointWriter::write(const std::string& name, const Tensor& tensor) {
  Shard& shard = shard_of(name);
  if (shard.left == 0) fail(ErrorCode::kInternal, "checkpoint writer: tensor \"{}\" written twice", printable(name));
  if (!shard.writer) shard.open(dir_);
  shard.writer->write(name, tensor);
  if (--shard.left == 0) shard.close();
}

void CheckpointWriter::finish() {
  for (const auto& shard : shards_) {
    if (shard->specs.empty() && !shard->writer && shard_index_.empty()) shard->open(dir_);  // no tensors at all
    if (shard->writer) shard->close();  // throws when a tensor is missing
    if (shard->left > 0) fail(ErrorCode::kInternal, "checkpoint writer: no tensor of {} was written", shard->file_name);
  }
  if (shards_.size() == 1) return;
  Json map = Json::object();
  for (const auto& [name, shard] : shard_index_) map.as_object().emplace_back(name, Json(shards_[shard]->file_name));
  Json metadata = Json::object();
  metadata["total_size"] = Json(total_bytes_);
  Json index = Json::object();
  index["metadata"] = std::move(metadata);
  index["weight_map"] = std::move(map);
  FileWriter out(dir_.file("model.safetensors.index.json"));
  out.write(index.dump(2) + "\n");
  out.close();
}

}  // namespace fettle::io
