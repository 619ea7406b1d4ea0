#pragma once

#include <string>

#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "io/model_files.h"

namespace fettle::compress {

// Throws kUsage when `out` is the input, lies inside it or contains it (links resolved).
void require_apart(const std::string& input, const std::string& out);

// Copies tokenizer, templates, licence and other small files of a checkpoint folder; weights, their index, config.json
// and an older manifest are left out.
void copy_side_files(const io::ModelFiles& from, const std::string& to);

// Throws kNumeric naming tensor, number of NaN and infinite values and the first index, for any float tensor.
void require_finite(const io::TensorSource& source, ThreadPool& pool);

}  // namespace fettle::compress
