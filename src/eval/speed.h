#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/thread_pool.h"

namespace fettle::models {
class Model;
}

// Speed of a model, with llama-bench's meaning of the tests: random token ids, no sampling, one warm-up run, an empty
// cache for every repetition, tokens per second of each repetition, mean and sample deviation.
namespace fettle::eval {

struct SpeedTest {
  size_t prompt = 0;         // tokens processed together first
  size_t generate = 0;       // tokens processed one by one afterwards
  size_t depth = 0;          // tokens already in the cache, not timed
  std::string name() const;  // "pp512", "tg128", "pp512+tg128", with " @ d1024"
};

struct SpeedOptions {
  std::vector<SpeedTest> tests;
  size_t repetitions = 5;
  double max_seconds = 0;         // no further repetition after this time; 0 = no limit. At least one is made
  size_t batch = 512;             // prompt tokens per forward pass
  bool int8_activations = false;  // prefill is compared with the int8 peak then, else with the 16-bit one
};

// What the machine can do, measured in the same run with the same threads.
struct MachineLimits {
  double read_bytes_per_s = 0;  // streaming read from memory
  double flops_per_s = 0;       // multiply-adds (counted as two) of the kernel family that prefill uses
};

struct SpeedResult {
  SpeedTest test;
  double tokens_per_s = 0, stddev = 0;
  double bytes_per_s = 0;     // decode: weights and cache read per token times tokens/s
  double flops_per_s = 0;     // 2 * active parameters * tokens/s; prefill without the output head (one row of logits)
  double limit_fraction = 0;  // decode: of read_bytes_per_s; prefill: of flops_per_s; 0 when not measured
  std::vector<double> samples_tokens_per_s = {};
};

// Bytes of weights that one generated token must read: everything but the embedding table (unless it is the output head
// too) and the experts that are not chosen.
double decode_weight_bytes(const models::Model& model);
// Parameters that take part in one token's arithmetic.
double active_parameters(const models::Model& model);

SpeedResult measure_speed(const models::Model& model, const SpeedTest& test, const SpeedOptions& options,
                          const MachineLimits& limits, ThreadPool& pool, const CancelToken* cancel = nullptr);

// Parses "512", "128,256", "0-1024+256", "64-512*2" (llama-bench lists). Throws kUsage naming the option.
std::vector<size_t> parse_size_list(std::string_view text, std::string_view option);

// Resident memory of this process, from /proc; 0 when it cannot be read.
uint64_t resident_bytes();
uint64_t peak_resident_bytes();
// One-minute load average per CPU, before our own work adds to it; 0 when unknown.
double load_per_cpu();

}  // namespace fettle::eval
