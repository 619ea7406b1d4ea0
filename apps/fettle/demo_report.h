#pragma once

#include <string>
#include <vector>

#include "variants.h"

namespace fettle::cli {

struct DemoResult {
  std::string model, text, generated;
  std::vector<VariantRow> rows;  // the original first
  size_t best = 0;
  double seconds = 0;
  int threads = 1;
};

std::string demo_text(const DemoResult& result);
std::string demo_html(const DemoResult& result);
Json demo_json(const DemoResult& result);

}  // namespace fettle::cli
