#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "io/safetensors.h"

namespace fettle::io {

uint64_t TensorSpec::bytes() const {
  uint64_t n = dtype_bytes(dtype);
  for (const int64_t dim : shape)
    if (dim < 0 || !checked_mul(n, static_cast<uint64_t>(dim), &n))
      fail(ErrorCode::kInput, "tensor \"{}\": size of {} overflows", printable(name), shape_text(shape));
  return n;
}

namespace {

Json header_entry(const TensorSpec& spec, uint64_t begin, uint64_t end) {
  Json entry = Json::object();
  entry["dtype"] = Json(dtype_name(spec.dtype));
  Json shape = Json::array();
  for (const int64_t dim : spec.shape) shape.push_back(Json(dim));
  entry["shape"] = std::move(shape);
  Json offsets = Json::array();
  offsets.push_back(Json(begin));
  offsets.push_back(Json(end));
  entry["data_offsets"] = std::move(offsets);
  return entry;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(FileWriter& out, std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : out_(out) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const size_t wide_a = dtype_bytes(a.dtype), wide_b = dtype_bytes(b.dtype);
    return wide_a != wide_b ? wide_a > wide_b : a.name < b.name;
  });
  Json::Object header;
  if (!metadata.empty()) {
    Json values = Json::object();
    for (const auto& [key, value] : metadata) values[key] = Json(value);
    header.emplace_back("__metadata__", std::move(values));
  }
  uint64_t begin = 0;
  for (TensorSpec& spec : tensors) {
    uint64_t end = 0;
    if (!checked_add(begin, spec.bytes(), &end))
      fail(ErrorCode::kInput, "tensor \"{}\": file size overflows", printable(spec.name));
    header.emplace_back(spec.name, header_entry(spec, begin, end));
    const std::string name = spec.name;
    if (!slots_.emplace(name, Slot{std::move(spec), begin, false}).second)
      fail(ErrorCode::kInput, "tensor \"{}\": announced twice", printable(name));
    begin = end;
  }
  std::string text = Json(std::move(header)).dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t n = text.size();
  file_bytes_ = 8 + n + begin;
  for (auto& [name, slot] : slots_) slot.offset += 8 + n;
  out_.reserve(file_bytes_);
  std::array<std::byte, 8> size_field;
  std::memcpy(size_field.data(), &n, 8);
  out_.write_at(0, size_field);
  out_.write_at(8, std::as_bytes(std::span(text.data(), text.size())));
}

void SafetensorsWriter::write(const std::string& name, const Tensor& tensor) {
  const auto it = slots_.find(name);
  if (it == slots_.end())
    fail(ErrorCode::kInternal, "safetensors writer: tensor \"{}\" was not announced", printable(name));
  Slot& slot = it->second;
  if (slot.written) fail(ErrorCode::kInternal, "safetensors writer: tensor \"{}\" written twice", printable(name));
  if (tensor.dtype() != slot.spec.dtype || tensor.shape() != slot.spec.shape)
    fail(ErrorCode::kInternal, "safetensors writer: tensor \"{}\": announced {} {}, got {}", printable(name),
         dtype_name(slot.spec.dtype), shape_text(slot.spec.shape), tensor.describe());
  out_.write_at(slot.offset, tensor.bytes());
  slot.written = true;
}

void SafetensorsWriter::finish() {
  for (const auto& [name, slot] : slots_)
    if (!slot.written)
      fail(ErrorCode::kInternal, "safetensors writer: tensor \"{}\" was announced but not written", printable(name));
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       Overwrite overwrite, const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype(), tensor.shape()});
  write_output_file(path, overwrite, [&](FileWriter& out) {
    SafetensorsWriter writer(out, std::move(specs), metadata);
    for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
    writer.finish();
  });
}

}  // namespace fettle::io
