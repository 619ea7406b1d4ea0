#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "compress/compress.h"
#include "io/checkpoint.h"
#include "io/model_files.h"

namespace fettle::compress {

// Throws kUsage when `out` is the input, lies inside it or contains it (links resolved).
void require_apart(const std::string& input, const std::string& out);

// Copies tokenizer, templates, licence and other small files of a checkpoint folder; weights, their index, config.json
// and an older manifest are left out.
void copy_side_files(const io::ModelFiles& from, const std::string& to);

// What the output holds in place of one tensor of the input: the packed parts when `layer` is planned for it, else the
// tensor itself. Throws kInput for types that cannot be copied.
std::vector<io::TensorSpec> stored_specs(const io::TensorSource& source, const io::TensorEntry& entry,
                                         const LayerPlan* layer);

// The plan's layers by the tensor they replace, "MODULE.weight".
std::map<std::string, const LayerPlan*> layers_by_tensor(const CompressPlan& plan);

// config.json of the input with the plan's quantization_config.
void write_quantised_config(const io::ModelFiles& from, const CompressPlan& plan, const std::string& to);

// Throws kNumeric naming tensor, number of NaN and infinite values and the first index, for any float tensor.
void require_finite(const io::TensorSource& source, ThreadPool& pool);

}  // namespace fettle::compress
