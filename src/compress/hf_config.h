#pragma once

#include "base/json.h"
#include "models/config.h"
#include "tensor/dtype.h"

namespace fettle::compress {

// config.json of a model that came without one (GGUF): the keys of its family that transformers reads, dtype "F32",
// "F16" or "BF16". Rotary divisors of a GGUF file become the llama3 scaling they were made from; throws kInput when
// they follow no such rule.
Json make_hf_config(const models::ModelConfig& config, DType dtype);

}  // namespace fettle::compress
