#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/json.h"
#include "context.h"
#include "engine/llm.h"
#include "eval/divergence.h"
#include "eval/html_report.h"
#include "eval/speed.h"

// Several forms of one model, measured side by side.
namespace fettle::cli {

struct VariantRow {
  std::string name = {};
  uint64_t bytes = 0;     // of all weights
  double bits = 0;        // per weight of the quantised layers
  double model_bits = 0;  // per weight of everything
  double weight_error = 0;
  eval::KlResult quality = {};
  eval::SpeedResult prefill = {}, decode = {};  // tokens_per_s 0: not measured
};

class Variants {
 public:
  Variants(ThreadPool& pool, const CancelToken& cancel) : pool_(pool), cancel_(cancel) {}

  // Loads a model; the first one is the reference. bits: of its quantised layers, 0 = as of the whole model.
  void add(const std::string& name, const std::string& path, double bits, double weight_error);
  // Perplexity of all and KL of all to the first on one pass over the text. chunks: 0 = all windows.
  void measure_quality(const std::string& text_path, int64_t context, int64_t chunks);
  void measure_speed();

  const std::vector<VariantRow>& rows() const { return rows_; }
  const std::shared_ptr<const engine::Llm>& llm(size_t i) const { return llms_[i]; }

 private:
  ThreadPool& pool_;
  const CancelToken& cancel_;
  std::vector<VariantRow> rows_;
  std::vector<std::shared_ptr<const engine::Llm>> llms_;
};

eval::ReportTable variants_table(const std::vector<VariantRow>& rows);
// What the columns of the table mean.
std::string variants_explained(const std::vector<VariantRow>& rows, const std::string& text);
std::string variants_scatter(const std::vector<VariantRow>& rows, bool kl);  // SVG
std::string variants_speed_bars(const std::vector<VariantRow>& rows);        // SVG
Json variants_json(const std::vector<VariantRow>& rows);
// "AMD ..., 2 threads, kernels at level avx2"
std::string machine_line(int threads);

}  // namespace fettle::cli
