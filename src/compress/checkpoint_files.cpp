#include "compress/checkpoint_files.h"

#include <atomic>
#include <bit>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "compress/manifest.h"
#include "io/linear_writer.h"

namespace fettle::compress {
namespace {

bool is_weight_file(std::string_view name) {
  for (const char* end :
       {".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack"})
    if (name.ends_with(end)) return true;
  return false;
}

// Bit pattern of an infinity of each type: exponent all ones. A value whose masked bits reach it is not finite.
template <typename Word>
void count_nonfinite(std::span<const std::byte> bytes, Word exponent, size_t base, std::atomic<size_t>& count,
                     std::atomic<size_t>& first) {
  size_t found = 0;
  for (size_t i = 0; i * sizeof(Word) < bytes.size(); ++i) {
    Word w;
    std::memcpy(&w, bytes.data() + i * sizeof(Word), sizeof w);
    if ((w & exponent) != exponent) continue;
    if (found++ == 0) {
      size_t seen = first.load();
      while (base + i < seen && !first.compare_exchange_weak(seen, base + i)) {
      }
    }
  }
  count += found;
}

}  // namespace

void require_apart(const std::string& input, const std::string& out) {
  const auto a = std::filesystem::weakly_canonical(input), b = std::filesystem::weakly_canonical(out);
  const auto inside = [](const std::filesystem::path& inner, const std::filesystem::path& outer) {
    const auto relative = inner.lexically_relative(outer);
    return !relative.empty() && *relative.begin() != "..";
  };
  if (inside(b, a) || (inside(a, b) && std::filesystem::is_directory(b)))
    fail(ErrorCode::kUsage, "output {} and input {} are the same or one lies inside the other", printable(out),
         printable(input));
}

void copy_side_files(const io::ModelFiles& from, const std::string& to) {
  constexpr size_t kMaxSideFile = size_t{256} << 20;
  for (const std::string& name : list_directory(from.path)) {
    if (name.starts_with('.') || name == "config.json" || name == kManifestName || is_weight_file(name)) continue;
    if (is_directory(path_join(from.path, name))) continue;
    write_file_atomic(path_join(to, name), read_file(from.at(name), kMaxSideFile));
  }
}

std::vector<io::TensorSpec> stored_specs(const io::TensorSource& source, const io::TensorEntry& entry,
                                         const LayerPlan* layer) {
  if (layer) return io::linear_specs(layer->module, layer->stored);
  if (!entry.dtype)
    fail(ErrorCode::kInput, "{}: tensor \"{}\" has type {}, which cannot be copied", source.file_of(entry.name),
         printable(entry.name), entry.type);
  return {{entry.name, *entry.dtype, entry.shape}};
}

std::map<std::string, const LayerPlan*> layers_by_tensor(const CompressPlan& plan) {
  std::map<std::string, const LayerPlan*> out;
  for (const LayerPlan& layer : plan.layers) out[layer.module + ".weight"] = &layer;
  return out;
}

void write_quantised_config(const io::ModelFiles& from, const CompressPlan& plan, const std::string& to) {
  Json config = io::read_config(from);
  io::QuantSection section;
  for (const LayerPlan& layer : plan.layers) section.add(layer.module, layer.stored);
  for (const std::string& module : plan.dense) section.add(module, {});
  config["quantization_config"] = section.json();
  write_file_atomic(path_join(to, "config.json"), config.dump(2) + "\n");
}

void require_finite(const io::TensorSource& source, ThreadPool& pool) {
  for (const io::TensorEntry* entry : source.entries()) {
    if (!entry->dtype) continue;
    const DType type = *entry->dtype;
    if (type != DType::kF32 && type != DType::kF16 && type != DType::kBF16 && type != DType::kF64) continue;
    const Tensor tensor = source.get(entry->name);
    std::atomic<size_t> count = 0, first = SIZE_MAX;
    constexpr size_t kGrain = size_t{1} << 18;
    const size_t element = dtype_bytes(type);
    pool.parallel_chunks(static_cast<size_t>(tensor.numel()), kGrain, [&](size_t begin, size_t end) {
      const auto bytes = tensor.bytes().subspan(begin * element, (end - begin) * element);
      if (type == DType::kF32) count_nonfinite<uint32_t>(bytes, 0x7F800000u, begin, count, first);
      if (type == DType::kF16) count_nonfinite<uint16_t>(bytes, 0x7C00, begin, count, first);
      if (type == DType::kBF16) count_nonfinite<uint16_t>(bytes, 0x7F80, begin, count, first);
      if (type == DType::kF64) count_nonfinite<uint64_t>(bytes, 0x7FF0000000000000u, begin, count, first);
    });
    if (count > 0)
      fail(ErrorCode::kNumeric,
           "{}: tensor \"{}\": expected finite weights, found {} NaN or infinite values, the first at "
           "index {}",
           source.file_of(entry->name), printable(entry->name), count.load(), first.load());
    source.release(entry->name);
  }
}

}  // namespace fettle::compress
