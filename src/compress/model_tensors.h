#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "models/config.h"

// The tensors a decoder consists of, derived from its config.
namespace fettle::compress {

struct ModelTensor {
  enum class Kind : uint8_t {
    kMatrix,   // a linear module or the embedding: name + ".weight" is [rows, cols]
    kExperts,  // one projection of all experts: name + ".J." + part + ".weight" is [rows, cols] for each J
    kVector,   // a norm weight or a bias; name is the whole tensor name, [rows]
  };
  std::string name;  // Hugging Face name in the Llama style, also for families that call it otherwise
  Kind kind = Kind::kMatrix;
  int64_t rows = 0, cols = 0;
  std::string part = {};  // kExperts: "gate_proj", "up_proj", "down_proj"
};

// In file order: embedding, layers, final norm, output head unless tied.
std::vector<ModelTensor> model_tensors(const models::ModelConfig& config);

// The name a checkpoint of this family uses for a Llama-style tensor name (Mixtral calls its experts w1, w2, w3).
std::string published_name(const models::ModelConfig& config, const std::string& name);

// The tensor of that published name, also behind the prefixes of multimodal wrappers; nullptr when absent.
const io::TensorEntry* find_model_tensor(const io::TensorSource& source, const std::string& name);

// Throws kInput unless every tensor the config asks for is there with the shape it implies; quantised checkpoints are
// checked when their parts are read. Names may carry the prefixes of multimodal wrappers.
void require_expected_tensors(const io::TensorSource& source, const models::ModelConfig& config);

}  // namespace fettle::compress
