#include "compress/pipeline/smoothing.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/pipeline/fused_scales.h"
#include "compress/solve/awq.h"
#include "compress/solve/smoothquant.h"
#include "tensor/convert.h"

namespace fettle::compress {

using models::Block;
using models::BlockLinear;
using models::Linear;
using models::Stage;

namespace {

constexpr size_t kClipRows = 512;

bool behind_norm(Stage stage) { return stage == Stage::kAttentionIn || stage == Stage::kFfnIn; }

std::vector<const BlockLinear*> linears_of(const Block& block, Stage stage) {
  std::vector<const BlockLinear*> out;
  for (const BlockLinear& l : block.linears())
    if (l.stage == stage) out.push_back(&l);
  return out;
}

Linear dense_linear(const Linear& like, const std::vector<float>& values, ThreadPool& pool) {
  Tensor w = Tensor::empty(DType::kF32, {like.out_features(), like.in_features()});
  std::copy(values.begin(), values.end(), w.mutable_data<float>());
  return Linear(kernels::prepare(dense_weight(w), pool), like.bias());
}

Tensor vector_of(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
  convert_from_f32(values, dtype, bytes.data());
  return Tensor::borrow(dtype, {static_cast<int64_t>(values.size())}, bytes, nullptr).copy();
}

// Inputs of one stage for some of the samples.
struct StageInputs {
  std::vector<size_t> samples;
  std::vector<std::vector<float>> rows;  // per sample [tokens, width]
  size_t width = 0;

  MatView<const float> view(size_t i) const { return {rows[i].data(), rows[i].size() / width, width}; }
  std::vector<float> all() const {
    std::vector<float> out;
    for (const auto& r : rows) out.insert(out.end(), r.begin(), r.end());
    return out;
  }
};

class Smoother {
 public:
  Smoother(const SmoothingJob& job, std::map<std::string, Tensor>* replaced)
      : job_(job), pool_(job.stream.pool()), replaced_(replaced) {}

  BlockScales awq() {
    for (const Stage stage : models::kStages) awq_stage(stage);
    return std::move(out_);
  }
  BlockScales smoothquant();

 private:
  std::string obstacle(Stage stage) const;
  StageInputs gather(Stage stage) const;
  const BlockLinear* producer(Stage stage) const;
  void awq_stage(Stage stage);
  AwqResult search(Stage stage, const StageInputs& in, std::span<const double> x_mean) const;
  std::vector<float> sublayer(Stage stage, const StageInputs& in) const;
  double sublayer_loss(Stage stage, const StageInputs& in, std::span<const float> reference,
                       std::span<const double> scales) const;
  void fold(Stage stage, const std::vector<float>& scales);
  std::vector<float> fold_norm(Block& block, Stage stage, const std::vector<float>& scales, Tensor* stored) const;
  void scale_readers(Block& block, Stage stage, std::span<const float> factors) const;
  void scale_producer(Block& block, Stage stage, std::span<const float> scales) const;
  const FormatOptions& numbers(const BlockLinear& l) const { return job_.plan_of(l.module)->numbers; }

  const SmoothingJob& job_;
  ThreadPool& pool_;
  std::map<std::string, Tensor>* replaced_;
  BlockScales out_;
};

// Why a stage cannot be scaled; empty when it can.
std::string Smoother::obstacle(Stage stage) const {
  if (job_.block.sparse() && stage == Stage::kFfnIn) return "not scaled: the router reads the same norm";
  if (job_.block.sparse() && stage == Stage::kFfnOut) return "not scaled: experts";
  for (const BlockLinear* l : linears_of(job_.block, stage))
    if (!job_.plan_of(l->module)) return "not scaled: a layer with the same input stays dense";
  if (behind_norm(stage)) return {};
  const BlockLinear* from = producer(stage);
  if (!from || !job_.plan_of(from->module)) return "not scaled: the layer in front stays dense";
  const auto width = static_cast<int64_t>(job_.block.width(stage));
  if (stage == Stage::kAttentionOut && !from->module.ends_with("qkv_proj") && from->linear->out_features() != width)
    return "not scaled: queries share value heads";
  if (from->module.ends_with("qkv_proj") && from->linear->out_features() != 3 * width)
    return "not scaled: queries share value heads";
  return {};
}

// The layer whose last rows make the inputs of o or down: v or a fused qkv, up or a fused gate_up.
const BlockLinear* Smoother::producer(Stage stage) const {
  const Stage before = stage == Stage::kAttentionOut ? Stage::kAttentionIn : Stage::kFfnIn;
  for (const BlockLinear* l : linears_of(job_.block, before))
    for (const std::string_view name : {"v_proj", "qkv_proj", "gate_up_proj", ".up_proj"})
      if (l->module.ends_with(name)) return l;
  return nullptr;
}

// Evenly spread samples of about kSmoothingTokens tokens in all.
StageInputs Smoother::gather(Stage stage) const {
  BlockPass pass(job_.stream, job_.block, BlockPass::Mode::kNaive);
  const size_t n = job_.stream.samples(), each = std::max<size_t>(job_.stream.tokens(0), 1);
  const size_t wanted = std::clamp<size_t>((kSmoothingTokens + each - 1) / each, 1, n);
  StageInputs out{.samples = {}, .rows = {}, .width = job_.block.width(stage)};
  for (size_t j = 0; j < wanted; ++j) {
    out.samples.push_back(j * n / wanted);
    const MatView<const float> in = pass.input(stage, out.samples.back());
    out.rows.emplace_back(in.data, in.data + in.rows * in.cols);
    job_.stream.x().done(out.samples.back());
  }
  return out;
}

// Output of the sublayer behind a norm, of all gathered samples one after the other.
std::vector<float> Smoother::sublayer(Stage stage, const StageInputs& in) const {
  const Stage last = stage == Stage::kAttentionIn ? Stage::kAttentionOut : Stage::kFfnOut;
  const auto hidden = static_cast<size_t>(job_.stream.model().config().hidden_size);
  models::Exec exec = job_.stream.exec();
  std::vector<float> out;
  AlignedBuffer<float> inner, y;
  for (size_t i = 0; i < in.rows.size(); ++i) {
    const MatView<const float> x = in.view(i);
    inner.resize(x.rows * job_.block.width(last));
    const MatView<float> h(inner.data(), x.rows, job_.block.width(last));
    if (stage == Stage::kAttentionIn)
      job_.stream.with_batch(job_.block.index(), in.samples[i], [&](const models::Batch& batch) {
        job_.block.attend(x, batch, job_.stream.scratch(), exec, h);
      });
    else
      job_.block.ffn_hidden(x, {}, job_.stream.scratch(), exec, h);
    y.resize(x.rows * hidden);
    std::fill_n(y.data(), x.rows * hidden, 0.0f);
    job_.block.add_output(last, h, {}, job_.stream.scratch(), exec, {y.data(), x.rows, hidden});
    out.insert(out.end(), y.data(), y.data() + x.rows * hidden);
  }
  return out;
}

// Mean squared change of the sublayer's output when the stage's weights become Q(W s) / s.
double Smoother::sublayer_loss(Stage stage, const StageInputs& in, std::span<const float> reference,
                               std::span<const double> scales) const {
  const std::vector<const BlockLinear*> linears = linears_of(job_.block, stage);
  std::vector<Linear> kept;
  for (const BlockLinear* l : linears) {
    kept.push_back(*l->linear);
    const std::vector<float> w = weight_values(*l->linear);
    const auto rows = static_cast<size_t>(l->linear->out_features());
    std::vector<double> q(w.size());
    awq_fake_quantise({w.data(), rows, in.width}, scales, job_.plan_of(l->module)->stored.format, numbers(*l), 0,
                      {q.data(), rows, in.width}, pool_);
    *l->linear = dense_linear(*l->linear, std::vector<float>(q.begin(), q.end()), pool_);
  }
  const std::vector<float> y = sublayer(stage, in);
  for (size_t i = 0; i < linears.size(); ++i) *linears[i]->linear = kept[i];
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double d = static_cast<double>(y[i]) - static_cast<double>(reference[i]);
    sum += d * d;
  }
  return sum / static_cast<double>(y.size());
}

AwqResult Smoother::search(Stage stage, const StageInputs& in, std::span<const double> x_mean) const {
  std::vector<std::vector<float>> values;
  std::vector<MatView<const float>> weights;
  const std::vector<const BlockLinear*> linears = linears_of(job_.block, stage);
  for (const BlockLinear* l : linears) {
    values.push_back(weight_values(*l->linear));
    weights.emplace_back(values.back().data(), values.back().size() / in.width, in.width);
  }
  const FormatOptions o = numbers(*linears.front());
  const Format format = job_.plan_of(linears.front()->module)->stored.format;
  const int64_t group = o.group_size > 0 ? o.group_size : static_cast<int64_t>(in.width);
  const std::vector<AwqCandidate> candidates =
      awq_candidates(x_mean, relative_weight_magnitude(weights, group), AwqRule::kCompressor);
  if (behind_norm(stage)) {
    const std::vector<float> reference = sublayer(stage, in);
    return awq_search(candidates, [&](std::span<const double> s) { return sublayer_loss(stage, in, reference, s); });
  }
  const std::vector<float> all = in.all();
  const MatView<const float> x(all.data(), all.size() / in.width, in.width);
  return awq_search(candidates,
                    [&](std::span<const double> s) { return awq_output_loss(x, weights, s, format, o, 0, pool_); });
}

void Smoother::awq_stage(Stage stage) {
  StageScales& result = out_[stage];
  result.note = obstacle(stage);
  const StageInputs in = gather(stage);
  std::vector<float> all = in.all();
  const size_t tokens = all.size() / in.width;
  if (result.note.empty()) {
    const std::vector<double> x_mean = channel_mean_magnitude({all.data(), tokens, in.width});
    const AwqResult found = search(stage, in, x_mean);
    result.scales = found.scales;
    result.note =
        fmt::format("scaling lowers the error from {:.3e} to {:.3e}", found.losses.front(), found.losses[found.best]);
    fold(stage, found.scales);
  }
  const size_t step = (tokens + kClipRows - 1) / kClipRows;
  for (size_t t = 0; t < tokens; t += step, ++result.tokens)
    for (size_t k = 0; k < in.width; ++k)
      result.rows.push_back(all[t * in.width + k] / (result.scales.empty() ? 1.0f : result.scales[k]));
}

BlockScales Smoother::smoothquant() {
  for (const Stage stage : {Stage::kAttentionIn, Stage::kFfnIn}) {
    StageScales& result = out_[stage];
    result.note = obstacle(stage);
    if (!result.note.empty()) continue;
    ChannelRange range(static_cast<int64_t>(job_.block.width(stage)));
    BlockPass pass(job_.stream, job_.block, BlockPass::Mode::kNaive);
    for (size_t i = 0; i < job_.stream.samples(); ++i) {
      range.add(pass.input(stage, i));
      job_.stream.x().done(i);
    }
    std::vector<std::vector<float>> values;
    std::vector<MatView<const float>> weights;
    for (const BlockLinear* l : linears_of(job_.block, stage)) {
      values.push_back(weight_values(*l->linear));
      weights.emplace_back(values.back().data(), values.back().size() / range.min.size(), range.min.size());
    }
    result.scales = smooth_factors(range, weights, SmoothRule::kPaper, job_.options.smooth_alpha);
    fold(stage, result.scales);
  }
  return std::move(out_);
}

void Smoother::fold(Stage stage, const std::vector<float>& scales) {
  for (Block* block : {&job_.block, job_.float_block}) {
    if (!block) continue;
    if (!behind_norm(stage)) {
      scale_producer(*block, stage, scales);
      scale_readers(*block, stage, scales);
      continue;
    }
    Tensor stored;
    scale_readers(*block, stage, fold_norm(*block, stage, scales, &stored));
    (*replaced_)[job_.stored_name(block->input_norm_name(stage))] = std::move(stored);
  }
}

// The factor of column k is what the stored norm really lost: before / after rounding to its type.
std::vector<float> Smoother::fold_norm(Block& block, Stage stage, const std::vector<float>& scales,
                                       Tensor* stored) const {
  models::RmsNorm& norm = block.input_norm(stage);
  const std::string name = job_.stored_name(block.input_norm_name(stage));
  const DType dtype = *job_.source.at(name).dtype;
  const float one = norm.kind() == kernels::NormWeight::kOnePlus ? 1.0f : 0.0f;
  std::vector<float> folded = norm.weight(), factors(scales.size());
  for (size_t k = 0; k < folded.size(); ++k) folded[k] = (folded[k] + one) / scales[k] - one;
  *stored = vector_of(folded, dtype);
  std::vector<float> rounded = stored->to_f32();
  for (size_t k = 0; k < folded.size(); ++k) {
    const float before = norm.weight()[k] + one, after = rounded[k] + one;
    factors[k] = after != 0 && std::isfinite(after) ? before / after : 1.0f;
    if (!std::isfinite(after))
      fail(ErrorCode::kNumeric, "{}: channel {} divided by {} leaves the range of {}", name, k, scales[k],
           dtype_name(dtype));
  }
  norm = norm.with_weight(std::move(rounded));
  return factors;
}

void Smoother::scale_readers(Block& block, Stage stage, std::span<const float> factors) const {
  for (const BlockLinear* l : linears_of(block, stage)) {
    std::vector<float> w = weight_values(*l->linear);
    scale_columns({w.data(), w.size() / factors.size(), factors.size()}, factors);
    *l->linear = dense_linear(*l->linear, w, pool_);
  }
}

void Smoother::scale_producer(Block& block, Stage stage, std::span<const float> scales) const {
  const std::string module = producer(stage)->module;
  for (const BlockLinear& l : block.linears()) {
    if (l.module != module) continue;
    std::vector<float> w = weight_values(*l.linear), bias = l.linear->bias();
    const auto cols = static_cast<size_t>(l.linear->in_features());
    const size_t first = w.size() / cols - scales.size();  // the last rows of a fused matrix
    for (size_t r = 0; r < scales.size(); ++r) {
      for (size_t c = 0; c < cols; ++c) w[(first + r) * cols + c] /= scales[r];
      if (!bias.empty()) bias[first + r] /= scales[r];
    }
    const Linear scaled = dense_linear(*l.linear, w, pool_);
    if (!bias.empty()) {
      const std::string name = job_.stored_name(module) + ".bias";
      Tensor stored = vector_of(bias, *job_.source.at(name).dtype);
      bias = stored.to_f32();
      (*replaced_)[name] = std::move(stored);
    }
    *l.linear = Linear(scaled.weight(), std::move(bias));
  }
}

}  // namespace

BlockScales smooth_block(const SmoothingJob& job, std::map<std::string, Tensor>* replaced) {
  if (job.options.smoothing == Smoothing::kNone) return {};
  Smoother smoother(job, replaced);
  return job.options.smoothing == Smoothing::kAwq ? smoother.awq() : smoother.smoothquant();
}

}  // namespace fettle::compress
