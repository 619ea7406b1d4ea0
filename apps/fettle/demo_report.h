#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "eval/divergence.h"
#include "eval/speed.h"

namespace fettle::cli {

struct DemoRow {
  std::string name = {};
  uint64_t bytes = 0;     // of all weights
  double bits = 0;        // per weight of the quantised layers
  double model_bits = 0;  // per weight of everything
  double weight_error = 0;
  eval::KlResult quality = {};
  eval::SpeedResult prefill = {}, decode = {};
};

struct DemoResult {
  std::string model, text, generated;
  std::vector<DemoRow> rows;  // the original first
  size_t best = 0;
  double seconds = 0;
  int threads = 1;
};

std::string demo_text(const DemoResult& result);
std::string demo_html(const DemoResult& result);
Json demo_json(const DemoResult& result);

}  // namespace fettle::cli
