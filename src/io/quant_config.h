#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/model_files.h"
#include "io/pattern.h"

namespace fettle::io {

// Which tool's layout the quantised tensors of a Hugging Face folder follow.
enum class QuantMethod : uint8_t {
  kNone,               // every weight is dense
  kCompressedTensors,  // vllm-project/compressed-tensors, all formats of specs/00 section 2.4
  kFpQuant,            // IST-DASLab/FP-Quant
  kModelOpt,           // NVIDIA ModelOpt NVFP4 and FP8
  kAwq,                // AutoAWQ gemm
  kGptq,               // GPTQ v1 and v2
  kMxfp4,              // gpt-oss: experts as *_blocks and *_scales
  kFp8,                // DeepSeek style: F8_E4M3 with weight_scale_inv blocks
  kBitsAndBytes,       // NF4 and LLM.int8()
  kDf11,               // LeanModels/DFloat11: lossless BF16, a section of its own (dfloat11_config)
  kFx3,                // ours: lossless BF16 (docs/formats.md)
  kSinq,               // huawei-csl/SINQ
};
std::string_view quant_method_name(QuantMethod method);

enum class ScaleStrategy : uint8_t { kTensor, kChannel, kGroup, kBlock, kTensorGroup };

// How the weights of a set of modules are stored.
struct WeightScheme {
  std::string format;  // compressed-tensors: "pack-quantized", "nvfp4-pack-quantized", ...; "dense"
  int num_bits = 16;
  bool is_float = false;
  bool symmetric = true;
  ScaleStrategy strategy = ScaleStrategy::kChannel;
  int64_t group_size = 0;                      // kGroup, kTensorGroup
  int64_t block_rows = 128, block_cols = 128;  // kBlock
};

// A line of dfloat11_config's pattern_dict.
struct Df11Pattern {
  NamePattern unit;                  // matches the whole module path of a unit
  std::vector<std::string> modules;  // its matrices in order, relative to it; empty: the unit itself is the matrix
};

// One module of a SINQ checkpoint, from its side file "model.safetensors.index.json.meta.json".
struct SinqLeaf {
  int bits = 4;
  int64_t group_size = 64;
  bool square_tiles = false;
  std::string method = "sinq";
};

// The quantisation_config of a model, checked.
class QuantConfig {
 public:
  QuantConfig() = default;  // dense
  // From a whole config.json (text_config of multimodal wrappers included). `source` is named in errors. Throws kInput
  // for unknown methods (with a hint), formats, strategies, widths and keys that change the stored numbers.
  static QuantConfig parse(const Json& config, const std::string& source);

  QuantMethod method() const { return method_; }
  // The rule for a linear module, or nullptr when it is stored dense. compressed-tensors only; the other methods have
  // one scheme and show by the tensors present whether a module is quantised.
  const WeightScheme* scheme_for(std::string_view module) const;

  // Block size of the Hadamard matrix on the module's input and, inverted, on its stored weight (compressed-tensors
  // transform_config); 0 for none.
  int64_t input_hadamard(std::string_view module) const;

  // SINQ: reads the side file `meta`; without it every module has the values of config.json.
  void read_sinq_meta(const Json& meta, const std::string& source);
  const SinqLeaf& sinq_leaf(std::string_view module) const;

  // Method-wide values; meaning depends on the method.
  const WeightScheme& scheme() const { return scheme_; }
  const std::vector<Df11Pattern>& df11_patterns() const { return df11_patterns_; }
  bool gptq_v2() const { return gptq_v2_; }                             // zero points stored as they are
  int64_t hadamard_group_size() const { return hadamard_group_size_; }  // FP-Quant; 0 = no rotation

 private:
  friend class QuantConfigParser;
  struct Rule {
    std::vector<NamePattern> targets;
    WeightScheme scheme;
  };
  struct Rotation {
    std::vector<NamePattern> targets, ignore;
    int64_t block = 0;
  };
  QuantMethod method_ = QuantMethod::kNone;
  WeightScheme scheme_;
  std::vector<Rule> rules_;
  std::vector<NamePattern> ignore_;
  std::vector<Df11Pattern> df11_patterns_;
  std::vector<Rotation> rotations_;
  SinqLeaf sinq_default_;
  std::map<std::string, SinqLeaf, std::less<>> sinq_leaves_;
  bool gptq_v2_ = false;
  int64_t hadamard_group_size_ = 0;
};

// config.json's quantisation section, or ModelOpt's hf_quant_config.json beside it.
QuantConfig read_quant_config(const ModelFiles& files, const Json& config);

}  // namespace fettle::io
