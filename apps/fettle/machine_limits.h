#pragma once

#include <string>

#include "base/thread_pool.h"
#include "eval/speed.h"

namespace fettle::models {
class Model;
}

namespace fettle::cli {

// The format that holds most of the model's bytes.
std::string main_format(const models::Model& model);

// Measures this machine with the pool's threads; the arithmetic peak is the one of the instructions that multiply the
// model's main format.
eval::MachineLimits measure_limits(const models::Model& model, bool int8_activations, ThreadPool& pool);

}  // namespace fettle::cli
