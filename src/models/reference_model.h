#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace fettle::models::ref {

// Test oracle: the forward pass of a decoder written down from the published formulas in double precision, straight
// from the Hugging Face config keys and tensor names. Shares no code with the engine. No cache: the whole sequence at
// once.
struct Checkpoint {
  Json config;
  std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>> tensors;
};

// Random checkpoint with every tensor the config asks for; values are exactly representable in bf16.
Checkpoint random_checkpoint(const Json& config, uint64_t seed);

// Logits [tokens, vocab] of every position.
std::vector<std::vector<double>> forward(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens);

// Writes config.json and model.safetensors into an existing directory.
void write_hf(const Checkpoint& checkpoint, const std::string& directory);

}  // namespace fettle::models::ref
