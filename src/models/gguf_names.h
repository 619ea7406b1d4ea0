#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "io/checkpoint.h"
#include "models/config.h"

namespace fettle::models {

// Reads the `<architecture>.*` keys of a GGUF file into the same structure as a Hugging Face config. Throws kInput for
// unknown architectures (naming the known ones) and impossible values.
ModelConfig parse_gguf_config(const io::TensorSource& source);

// GGUF architecture string of a family ("llama" for mistral and mixtral too) and the other way round.
std::string gguf_architecture(const ModelConfig& config);

// GGUF name of a Hugging Face tensor, e.g. "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; nullopt when
// the architecture has no such tensor. Experts map to their stacked tensor ("mlp.experts.up_proj.weight" ->
// "ffn_up_exps").
std::optional<std::string> gguf_tensor_name(const ModelConfig& config, std::string_view hf_name);

}  // namespace fettle::models
