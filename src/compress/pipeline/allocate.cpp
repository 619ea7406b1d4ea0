#include "compress/pipeline/allocate.h"

#include <algorithm>
#include <map>

#include "base/log.h"
#include "compress/pipeline/block_pass.h"
#include "compress/pipeline/fused_scales.h"
#include "compress/solve/sensitivity.h"

namespace fettle::compress {

using models::Block;
using models::BlockLinear;
using models::Linear;

namespace {

constexpr size_t kMeasuredTokens = 1024;

// "model.layers.0.mlp.experts.3.up_proj" -> "model.layers.0.mlp.gate_up": what takes one format.
std::string unit_name(std::string module) {
  if (const size_t at = module.find(".experts."); at != std::string::npos)
    module.erase(at, module.find('.', at + 9) - at);
  const std::string group = fusion_group(module);
  return group.empty() ? module : group;
}

class Measurement {
 public:
  Measurement(const std::string& model, const CompressPlan& plan, const PipelineOptions& options,
              const std::vector<std::vector<int32_t>>& samples, ThreadPool& pool, const CancelToken* cancel)
      : options_(options),
        formats_(options.bpw_formats.empty() ? std::vector{Format::kInt4, Format::kInt8} : options.bpw_formats),
        pool_(pool),
        cancel_(cancel),
        samples_(spread(samples)) {
    size_t longest = 0;
    for (const auto& s : samples_) longest = std::max(longest, s.size());
    model_ = models::BlockModel::open(model, {.context = static_cast<int64_t>(longest)}, pool);
    stream_ = std::make_unique<Stream>(*model_, samples_, "", pool);
    for (const LayerPlan& l : plan.layers) layers_[l.module] = &l;
  }

  std::vector<LayerRule> run() {
    for (int64_t b = 0; b < model_->config().num_hidden_layers; ++b) measure_block(static_cast<int>(b));
    const BitAllocation found = allocate_bits(bit_layers_, options_.target_bpw);
    log_info("mixed precision: {:.3f} bits per weight", found.bits_per_weight);
    std::vector<LayerRule> rules;
    for (size_t i = 0; i < bit_layers_.size(); ++i)
      rules.push_back({.targets = {bit_layers_[i].name}, .format = formats_[found.choice[i]]});
    return rules;
  }

 private:
  static std::vector<std::vector<int32_t>> spread(const std::vector<std::vector<int32_t>>& all) {
    const size_t each = std::max<size_t>(all.front().size(), 1);
    const size_t wanted = std::clamp<size_t>((kMeasuredTokens + each - 1) / each, 1, all.size());
    std::vector<std::vector<int32_t>> out;
    for (size_t j = 0; j < wanted; ++j) out.push_back(all[j * all.size() / wanted]);
    return out;
  }

  std::vector<std::vector<float>> snapshot() {
    std::vector<std::vector<float>> out;
    for (size_t i = 0; i < stream_->samples(); ++i) {
      const MatView<float> x = stream_->x().sample(i);
      out.emplace_back(x.data, x.data + x.rows * x.cols);
    }
    return out;
  }
  void restore(const std::vector<std::vector<float>>& x) {
    for (size_t i = 0; i < x.size(); ++i) std::copy(x[i].begin(), x[i].end(), stream_->x().sample(i).data);
  }

  LayerPlan planned(const LayerPlan& layer, Format format) const {
    LayerPlan out = layer;
    FormatOptions numbers = options_.compress.numbers;
    if (format == layer.stored.format) numbers.group_size = layer.stored.group_size;
    set_format(out, format, numbers, options_.compress.hadamard);
    return out;
  }

  void measure_block(int index) {
    Block block = model_->block(index);
    std::map<std::string, std::vector<const BlockLinear*>> units;
    for (const BlockLinear& l : block.linears())
      if (layers_.count(model_->stored_name(l.module))) units[unit_name(l.module)].push_back(&l);
    const auto before = snapshot();
    stream_->forward(block);
    const auto after = snapshot();
    for (const auto& [name, members] : units) {
      const size_t first = bit_layers_.size();
      for (const BlockLinear* l : members) {
        const LayerPlan& layer = *layers_.at(model_->stored_name(l->module));
        BitLayer bits{.name = layer.module, .weights = layer.rows * layer.cols, .choices = {}, .fused = unit_};
        for (const Format f : formats_)
          bits.choices.push_back({.bits = 8 * static_cast<double>(planned(layer, f).bytes_after), .error = 0});
        bit_layers_.push_back(std::move(bits));
      }
      ++unit_;
      for (size_t f = 0; f < formats_.size(); ++f) {
        check_cancel(cancel_);
        restore(before);
        bit_layers_[first].choices[f].error = error_of(block, members, formats_[f], after);
      }
    }
    restore(after);
  }

  // Relative squared change of the block's output with `members` rounded to `format`.
  double error_of(const Block& block, const std::vector<const BlockLinear*>& members, Format format,
                  const std::vector<std::vector<float>>& reference) {
    std::vector<Linear> kept;
    for (const BlockLinear* l : members) {
      kept.push_back(*l->linear);
      const LayerPlan layer = planned(*layers_.at(model_->stored_name(l->module)), format);
      std::vector<float> w = weight_values(*l->linear);
      rotate_weights(layer, w, pool_);
      const MatView<const float> view(w.data(), static_cast<size_t>(layer.rows), static_cast<size_t>(layer.cols));
      PackedWeight packed = encode(format_info(format), view, layer.numbers, pool_);
      packed.input.hadamard = layer.stored.hadamard;
      *l->linear = Linear(kernels::prepare(packed, pool_), l->linear->bias());
    }
    stream_->forward(block);
    for (size_t i = 0; i < members.size(); ++i) *members[i]->linear = kept[i];
    double change = 0, energy = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
      const float* y = stream_->x().sample(i).data;
      for (size_t j = 0; j < reference[i].size(); ++j) {
        const auto want = static_cast<double>(reference[i][j]), d = static_cast<double>(y[j]) - want;
        change += d * d;
        energy += want * want;
      }
    }
    return energy > 0 ? change / energy : 0;
  }

  const PipelineOptions& options_;
  const std::vector<Format> formats_;
  ThreadPool& pool_;
  const CancelToken* cancel_;
  std::vector<std::vector<int32_t>> samples_;
  std::unique_ptr<models::BlockModel> model_;
  std::unique_ptr<Stream> stream_;
  std::map<std::string, const LayerPlan*> layers_;  // by name in the file
  std::vector<BitLayer> bit_layers_;
  int64_t unit_ = 0;
};

}  // namespace

std::vector<LayerRule> allocate_formats(const std::string& model, const CompressPlan& plan,
                                        const PipelineOptions& options,
                                        const std::vector<std::vector<int32_t>>& samples, ThreadPool& pool,
                                        const CancelToken* cancel) {
  return Measurement(model, plan, options, samples, pool, cancel).run();
}

}  // namespace fettle::compress
