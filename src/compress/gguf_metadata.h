#pragma once

#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/model_files.h"
#include "models/config.h"

namespace fettle::compress {

// Factors by which the llama3 rule divides the rotary frequencies (specs/30 section 2.3), [rotary_dim / 2]: what GGUF
// stores as rope_freqs.weight.
std::vector<float> llama3_divisors(const models::RopeConfig& rope, int64_t rotary_dim);

struct GgufHeader {
  std::string name;       // general.name
  int64_t file_type = 0;  // general.file_type
  bool quantised = false;
};

// `general.*` and `<architecture>.*` of a model. Throws kInput for rope scalings that GGUF cannot express.
void add_model_metadata(const models::ModelConfig& config, const GgufHeader& header, io::GgufMetadata& out);

// `tokenizer.*` and `general.sampling.*` from a Hugging Face directory; without tokenizer files the tokenizer keys are
// left out. The vocabulary is padded with unused tokens to the model's embedding rows, as llama.cpp demands.
void add_text_metadata(const io::ModelFiles& files, const models::ModelConfig& config, io::GgufMetadata& out);

// The same keys of another GGUF file, as they are.
void copy_text_metadata(const io::GgufFile& from, io::GgufMetadata& out);

}  // namespace fettle::compress
