#pragma once

#include <functional>
#include <string>

#include "compress/convert.h"
#include "io/gguf.h"
#include "models/weight_source.h"

namespace fettle::compress {

// Writes a GGUF file from any weight source; add_text appends the tokenizer keys.
ConvertReport write_gguf(models::WeightSource& source, const std::string& out, const std::string& name,
                         const std::function<void(io::GgufMetadata&)>& add_text, const ConvertOptions& options,
                         ThreadPool& pool, const CancelToken* cancel);

// Writes a directory in Hugging Face layout. `side` is the folder whose tokenizer files are copied; null for GGUF
// input.
ConvertReport write_hf(models::WeightSource& source, const std::string& out, const io::ModelFiles& from,
                       const ConvertOptions& options, ThreadPool& pool, const CancelToken* cancel);

}  // namespace fettle::compress
