#include "compress/synth.h"

#include <array>
#include <cmath>

#include "base/random.h"
#include "base/utf8.h"
#include "compress/byte_tokenizer.h"
#include "io/safetensors.h"
#include "tensor/convert.h"

namespace fettle::compress {
namespace {

// Inverse of the normal distribution function: Newton steps on erfc from a logistic start, exact to F64 rounding here.
double inverse_normal(double p) {
  double x = 0.6266 * std::log(p / (1 - p));
  for (int i = 0; i < 60; ++i) {
    const double error = 0.5 * std::erfc(-x / std::sqrt(2.0)) - p;
    const double slope = std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846);
    const double step = std::clamp(error / slope, -0.5, 0.5);  // the tails are nearly flat
    x -= step;
    if (std::abs(step) < 1e-14) break;
  }
  return x;
}

const std::vector<float>& normal_table() {
  static const std::vector<float> table = [] {
    std::vector<float> t(65536);
    for (size_t i = 0; i < 32768; ++i) {
      const auto v = static_cast<float>(inverse_normal((static_cast<double>(i) + 0.5) / 65536));
      t[i] = v;
      t[65535 - i] = -v;
    }
    return t;
  }();
  return table;
}

Tensor make_tensor(const SynthTensor& spec, uint64_t stream, const SynthOptions& options, ThreadPool& pool) {
  Tensor tensor = Tensor::empty(options.dtype, spec.shape);
  auto* bytes = const_cast<std::byte*>(tensor.bytes().data());  // owned and not yet shared
  const size_t element = dtype_bytes(options.dtype);
  const float deviation = 1.0f / std::sqrt(static_cast<float>(spec.shape.back()));
  constexpr size_t kGrain = size_t{1} << 16;
  pool.parallel_chunks(static_cast<size_t>(tensor.numel()), kGrain, [&](size_t begin, size_t end) {
    std::vector<float> values(end - begin, spec.fill == SynthTensor::Fill::kOne ? 1.0f : 0.0f);
    if (spec.fill == SynthTensor::Fill::kNormal) fill_normal(options.seed, stream, begin, deviation, values);
    convert_from_f32(values, options.dtype, bytes + begin * element);
  });
  return tensor;
}

}  // namespace

void fill_normal(uint64_t seed, uint64_t stream, uint64_t begin, float deviation, std::span<float> out) {
  const std::vector<float>& table = normal_table();
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  std::array<uint32_t, 4> block{};
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t at = begin + i;  // eight 16-bit table indices per block
    if (i == 0 || at % 8 == 0) {
      const uint64_t counter = at / 8;
      block = philox4x32({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                          static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                         key);
    }
    const uint32_t word = block[at % 8 / 2];
    out[i] = deviation * table[at % 2 == 0 ? word & 0xFFFF : word >> 16];
  }
}

SynthReport synth(const std::string& out, const SynthOptions& options, Overwrite overwrite, ThreadPool& pool,
                  const CancelToken* cancel) {
  if (options.dtype != DType::kBF16 && options.dtype != DType::kF16 && options.dtype != DType::kF32)
    fail(ErrorCode::kUsage, "synth: expected dtype bf16, f16 or f32, found {}", dtype_name(options.dtype));
  Json config = synth_config(options.arch, options.params);
  config["torch_dtype"] = options.dtype == DType::kBF16  ? "bfloat16"
                          : options.dtype == DType::kF16 ? "float16"
                                                         : "float32";
  const std::vector<SynthTensor> tensors = synth_tensors(config);
  std::vector<io::TensorSpec> specs;
  SynthReport report{.tensors = tensors.size()};
  for (const SynthTensor& t : tensors) {
    specs.push_back({t.name, options.dtype, t.shape});
    report.bytes += specs.back().bytes();
    report.parameters += static_cast<int64_t>(specs.back().bytes() / dtype_bytes(options.dtype));
  }
  OutputDir dir(out, overwrite);
  {
    FileWriter file(dir.file("model.safetensors"));
    io::SafetensorsWriter writer(file, std::move(specs));
    for (size_t i = 0; i < tensors.size(); ++i) {
      check_cancel(cancel);
      writer.write(tensors[i].name, make_tensor(tensors[i], i, options, pool));
    }
    writer.finish();
    file.close();
  }
  write_file_atomic(dir.file("config.json"), config.dump(2) + "\n");
  Json generation = Json::object();
  generation["bos_token_id"] = 0;
  generation["eos_token_id"] = 0;
  write_file_atomic(dir.file("generation_config.json"), generation.dump(2) + "\n");
  const ByteTokenizer tokenizer = byte_tokenizer();
  write_file_atomic(dir.file("tokenizer.json"), tokenizer.tokenizer_json);
  write_file_atomic(dir.file("tokenizer_config.json"), tokenizer.tokenizer_config_json);
  dir.commit();
  return report;
}

}  // namespace fettle::compress
