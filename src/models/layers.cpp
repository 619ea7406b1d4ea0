#include "models/layers.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/norm.h"
#include "kernels/rope.h"

namespace fettle::models {
namespace {

constexpr size_t kRowGrain = 8;  // tokens per work item of element-wise passes

MatView<float> mat(AlignedBuffer<float>& buffer, size_t rows, size_t cols) {
  buffer.resize(rows * cols);
  return {buffer.data(), rows, cols};
}

void add_inplace(MatView<float> x, MatView<const float> y, ThreadPool& pool) {
  pool.parallel_chunks(x.rows, kRowGrain, [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) kernels::add(x.row_span(t), y.row_span(t), x.row_span(t));
  });
}

// gate <- act(gate) * up
void gate_inplace(MatView<float> gate, MatView<const float> up, kernels::Gate kind, ThreadPool& pool) {
  pool.parallel_chunks(gate.rows, kRowGrain, [&](size_t begin, size_t end) {
    const MatView<float> rows = gate.slice_rows(begin, end);
    kernels::gated_activation(rows, up.slice_rows(begin, end), kind, rows);
  });
}

kernels::Gate gate_of(Activation activation) {
  return activation == Activation::kSilu ? kernels::Gate::kSilu : kernels::Gate::kGeluTanh;
}

// h = act(gate x) * up x, the input of the down projection; h may lie in either buffer.
MatView<float> gated_hidden(const GatedWeights& w, kernels::Gate activation, MatView<const float> x,
                            AlignedBuffer<float>& gate_buffer, AlignedBuffer<float>& up_buffer, Exec& exec) {
  const auto width = static_cast<size_t>(w.down.in_features());
  if (w.gate_up.present()) {
    MatView<float> both = mat(gate_buffer, x.rows, 2 * width);
    w.gate_up.forward(x, exec, both);
    MatView<float> gate = both.slice_cols(0, width);
    gate_inplace(gate, both.slice_cols(width, 2 * width), activation, exec.pool);
    return gate;
  }
  MatView<float> gate = mat(gate_buffer, x.rows, width), up = mat(up_buffer, x.rows, width);
  const Linear* const linears[] = {&w.gate, &w.up};
  const MatView<float> outputs[] = {gate, up};
  forward_many(x, linears, exec, outputs);
  gate_inplace(gate, up, activation, exec.pool);
  return gate;
}

void copy_rows(MatView<const float> from, MatView<float> to) {
  for (size_t t = 0; t < from.rows; ++t) std::copy_n(from.row(t), from.cols, to.row(t));
}

// [begin, end) of the choices of one expert.
size_t end_of_expert(std::span<const MoeFeedForward::Choice> choices, size_t begin) {
  size_t end = begin;
  while (end < choices.size() && choices[end].expert == choices[begin].expert) ++end;
  return end;
}

}  // namespace

void RmsNorm::forward(MatView<const float> x, ThreadPool& pool, MatView<float> y) const {
  pool.parallel_chunks(x.rows, kRowGrain, [&](size_t begin, size_t end) {
    kernels::rms_norm(x.slice_rows(begin, end), weight_, eps_, kind_, y.slice_rows(begin, end));
  });
}

void RmsNorm::forward_heads(MatView<float> x, size_t head_dim, ThreadPool& pool) const {
  pool.parallel_chunks(x.rows, kRowGrain, [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) {
      const MatView<float> heads(x.row(t), x.cols / head_dim, head_dim);
      kernels::rms_norm(heads, weight_, eps_, kind_, heads);
    }
  });
}

Attention::Attention(const ModelConfig& c, int layer, AttentionWeights weights, int cache_layer)
    : w_(std::move(weights)),
      cache_layer_(cache_layer < 0 ? layer : cache_layer),
      heads_(static_cast<size_t>(c.num_attention_heads)),
      kv_heads_(static_cast<size_t>(c.num_key_value_heads)),
      head_dim_(static_cast<size_t>(c.head_dim)),
      interleaved_rope_(c.interleaved_rope),
      local_rope_(c.uses_local_rope[static_cast<size_t>(layer)]) {
  params_.heads = heads_;
  params_.scale = static_cast<float>(c.attention_scale);
  params_.softcap = static_cast<float>(c.attn_logit_softcapping);
  params_.window = static_cast<uint32_t>(c.sliding_window[static_cast<size_t>(layer)]);
}

void Attention::project(MatView<const float> x, Exec& exec, MatView<float> q, MatView<float> k, MatView<float> v,
                        LayerScratch& s) const {
  if (w_.qkv.present()) {
    MatView<float> all(s.q.data(), x.rows, q.cols + k.cols + v.cols);
    w_.qkv.forward(x, exec, all);
    return;
  }
  const Linear* const linears[] = {&w_.q, &w_.k, &w_.v};
  const MatView<float> outputs[] = {q, k, v};
  forward_many(x, linears, exec, outputs);
}

void Attention::attend(MatView<const float> x, const Batch& batch, LayerScratch& s, Exec& exec,
                       MatView<float> attended) const {
  const size_t q_dim = heads_ * head_dim_, kv_dim = kv_heads_ * head_dim_, width = q_dim + 2 * kv_dim;
  // One buffer [tokens, q | k | v]: the fused projection writes it whole, separate ones write their columns.
  MatView<float> all = mat(s.q, x.rows, width);
  MatView<float> q = all.slice_cols(0, q_dim), k = all.slice_cols(q_dim, q_dim + kv_dim),
                 v = all.slice_cols(q_dim + kv_dim, width);
  project(x, exec, q, k, v, s);
  if (w_.q_norm.present()) w_.q_norm.forward_heads(q, head_dim_, exec.pool);
  if (w_.k_norm.present()) w_.k_norm.forward_heads(k, head_dim_, exec.pool);

  const MatView<const float> cos = local_rope_ ? batch.cos_local : batch.cos;
  const MatView<const float> sin = local_rope_ ? batch.sin_local : batch.sin;
  const auto style = interleaved_rope_ ? kernels::RopeStyle::kPairs : kernels::RopeStyle::kHalves;
  exec.pool.parallel_chunks(x.rows, kRowGrain, [&](size_t begin, size_t end) {
    const auto rows = batch.rope_rows.subspan(begin, end - begin);
    kernels::rope(q.slice_rows(begin, end), heads_, rows, cos, sin, style);
    kernels::rope(k.slice_rows(begin, end), kv_heads_, rows, cos, sin, style);
  });

  s.attention_runs.clear();
  for (const SeqRun& run : batch.seqs) {
    const size_t end_row = run.first_row + run.n_rows;
    batch.cache->write(run.seq, cache_layer_, run.first_pos, k.slice_rows(run.first_row, end_row),
                       v.slice_rows(run.first_row, end_row));
    kernels::AttnSequence& a = s.attention_runs.emplace_back();
    a.kv = batch.cache->view(run.seq, cache_layer_, run.first_pos + run.n_rows);
    a.first_row = run.first_row;
    a.n_rows = run.n_rows;
    a.first_position = static_cast<uint32_t>(run.first_pos);
  }
  kernels::attention(s.attention_runs, params_, q, exec.pool, s.attention, attended);
}

void Attention::forward(MatView<const float> x, const Batch& batch, LayerScratch& s, Exec& exec,
                        MatView<float> y) const {
  MatView<float> attended = mat(s.attn, x.rows, width());
  attend(x, batch, s, exec, attended);
  w_.o.forward(attended, exec, y);
}

void GatedFeedForward::hidden(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> h) const {
  copy_rows(gated_hidden(w_, gate_of(activation_), x, s.gate, s.up, exec), h);
}

void GatedFeedForward::forward(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> y) const {
  w_.down.forward(gated_hidden(w_, gate_of(activation_), x, s.gate, s.up, exec), exec, y);
}

MoeFeedForward::MoeFeedForward(Linear router, std::vector<GatedWeights> experts, size_t top_k, bool normalise,
                               Activation activation)
    : router_(std::move(router)),
      experts_(std::move(experts)),
      top_k_(top_k),
      normalise_(normalise),
      activation_(activation) {}

void MoeFeedForward::route(MatView<const float> x, LayerScratch& s, Exec& exec, std::vector<Choice>& choices) const {
  MatView<float> logits = mat(s.router, x.rows, experts_.size());
  router_.forward(x, exec, logits);
  std::vector<uint32_t> order(experts_.size());
  for (size_t t = 0; t < x.rows; ++t) {
    float* p = logits.row(t);
    const float top = *std::max_element(p, p + experts_.size());
    float sum = 0;
    for (size_t e = 0; e < experts_.size(); ++e) sum += p[e] = std::exp(p[e] - top);
    for (size_t e = 0; e < experts_.size(); ++e) {
      p[e] /= sum;
      order[e] = static_cast<uint32_t>(e);
    }
    std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(top_k_), order.end(),
                      [&](uint32_t a, uint32_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
    float kept = 0;
    for (size_t i = 0; i < top_k_; ++i) kept += p[order[i]];
    for (size_t i = 0; i < top_k_; ++i)
      choices.push_back({order[i], static_cast<uint32_t>(t), normalise_ ? p[order[i]] / kept : p[order[i]]});
  }
  std::sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
    return a.expert != b.expert ? a.expert < b.expert : a.token < b.token;
  });
}

void MoeFeedForward::hidden(MatView<const float> x, std::span<const Choice> choices, LayerScratch& s, Exec& exec,
                            MatView<float> h) const {
  for (size_t begin = 0; begin < choices.size();) {
    const size_t end = end_of_expert(choices, begin);
    MatView<float> in = mat(s.expert_in, end - begin, x.cols);
    for (size_t i = begin; i < end; ++i) std::copy_n(x.row(choices[i].token), x.cols, in.row(i - begin));
    const GatedWeights& w = experts_[choices[begin].expert];
    copy_rows(gated_hidden(w, gate_of(activation_), in, s.expert_gate, s.expert_up, exec), h.slice_rows(begin, end));
    begin = end;
  }
}

void MoeFeedForward::combine(MatView<const float> h, std::span<const Choice> choices, LayerScratch& s, Exec& exec,
                             MatView<float> y) const {
  for (size_t t = 0; t < y.rows; ++t) std::fill_n(y.row(t), y.cols, 0.0f);
  for (size_t begin = 0; begin < choices.size();) {
    const size_t end = end_of_expert(choices, begin);
    MatView<float> out = mat(s.expert_out, end - begin, y.cols);
    experts_[choices[begin].expert].down.forward(h.slice_rows(begin, end), exec, out);
    for (size_t i = begin; i < end; ++i) {
      float* to = y.row(choices[i].token);
      const float* from = out.row(i - begin);
      for (size_t c = 0; c < y.cols; ++c) to[c] += choices[i].weight * from[c];
    }
    begin = end;
  }
}

void MoeFeedForward::forward(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> y) const {
  std::vector<Choice> choices;
  route(x, s, exec, choices);
  MatView<float> h = mat(s.expert_hidden, choices.size(), width());
  hidden(x, choices, s, exec, h);
  combine(h, choices, s, exec, y);
}

void DecoderLayer::forward(MatView<float> x, const Batch& batch, LayerScratch& s, Exec& exec) const {
  MatView<float> normed = mat(s.normed, x.rows, x.cols), mixed = mat(s.mixed, x.rows, x.cols);
  norms_.input.forward(x, exec.pool, normed);
  mixer_->forward(normed, batch, s, exec, mixed);
  if (norms_.attention_output.present()) norms_.attention_output.forward(mixed, exec.pool, mixed);
  add_inplace(x, mixed, exec.pool);
  norms_.post_attention.forward(x, exec.pool, normed);
  ffn_->forward(normed, s, exec, mixed);
  if (norms_.ffn_output.present()) norms_.ffn_output.forward(mixed, exec.pool, mixed);
  add_inplace(x, mixed, exec.pool);
}

}  // namespace fettle::models
