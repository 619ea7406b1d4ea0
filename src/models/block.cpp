#include "models/block.h"

#include "base/error.h"
#include "kernels/elementwise.h"

namespace fettle::models {

std::string_view stage_name(Stage stage) {
  switch (stage) {
    case Stage::kAttentionIn:
      return "attention input";
    case Stage::kAttentionOut:
      return "attention output";
    case Stage::kFfnIn:
      return "feed-forward input";
    case Stage::kFfnOut:
      return "feed-forward output";
  }
  return "";
}

Block::Block(int index, DecoderLayer layer)
    : index_(index), layer_(std::move(layer)), attention_(dynamic_cast<Attention*>(&layer_.mixer())) {
  dense_ = dynamic_cast<GatedFeedForward*>(&layer_.ffn());
  moe_ = dynamic_cast<MoeFeedForward*>(&layer_.ffn());
  if (attention_ == nullptr || (dense_ == nullptr && moe_ == nullptr))
    fail(ErrorCode::kInput, "model.layers.{}: only attention blocks with gated feed-forward can be cut", index);
  list_linears();
}

void Block::list_linears() {
  const std::string prefix = fmt::format("model.layers.{}.", index_);
  const auto add = [&](std::string module, Linear& linear, Stage stage, int expert) {
    if (linear.present()) linears_.push_back({std::move(module), &linear, stage, expert});
  };
  AttentionWeights& a = attention_->weights();
  add(prefix + "self_attn.qkv_proj", a.qkv, Stage::kAttentionIn, -1);
  add(prefix + "self_attn.q_proj", a.q, Stage::kAttentionIn, -1);
  add(prefix + "self_attn.k_proj", a.k, Stage::kAttentionIn, -1);
  add(prefix + "self_attn.v_proj", a.v, Stage::kAttentionIn, -1);
  add(prefix + "self_attn.o_proj", a.o, Stage::kAttentionOut, -1);
  const size_t n = moe_ ? moe_->experts().size() : 1;
  for (const Stage stage : {Stage::kFfnIn, Stage::kFfnOut})
    for (size_t e = 0; e < n; ++e) {
      GatedWeights& w = moe_ ? moe_->experts()[e] : dense_->weights();
      const std::string at = prefix + "mlp." + (moe_ ? fmt::format("experts.{}.", e) : "");
      const int expert = moe_ ? static_cast<int>(e) : -1;
      if (stage == Stage::kFfnIn) {
        add(at + "gate_up_proj", w.gate_up, stage, expert);
        add(at + "gate_proj", w.gate, stage, expert);
        add(at + "up_proj", w.up, stage, expert);
      } else {
        add(at + "down_proj", w.down, stage, expert);
      }
    }
}

RmsNorm& Block::input_norm(Stage stage) {
  FETTLE_CHECK(stage == Stage::kAttentionIn || stage == Stage::kFfnIn);
  return stage == Stage::kAttentionIn ? layer_.norms().input : layer_.norms().post_attention;
}

std::string Block::input_norm_name(Stage stage) const {
  const bool sandwich = layer_.norms().attention_output.present();
  const char* name = stage == Stage::kAttentionIn ? "input_layernorm"
                     : sandwich                   ? "pre_feedforward_layernorm"
                                                  : "post_attention_layernorm";
  return fmt::format("model.layers.{}.{}.weight", index_, name);
}

size_t Block::width(Stage stage) const {
  if (stage == Stage::kAttentionOut) return attention_->width();
  if (stage == Stage::kFfnOut) return moe_ ? moe_->width() : dense_->width();
  return layer_.norms().input.weight().size();
}

size_t Block::rows(Stage stage, size_t tokens) const {
  return stage == Stage::kFfnOut && moe_ ? tokens * moe_->top_k() : tokens;
}

void Block::normed(Stage stage, MatView<const float> x, ThreadPool& pool, MatView<float> input) const {
  const DecoderLayer::Norms& norms = layer_.norms();
  (stage == Stage::kAttentionIn ? norms.input : norms.post_attention).forward(x, pool, input);
}

Routes Block::routes(MatView<const float> input, LayerScratch& s, Exec& exec) const {
  Routes out;
  if (moe_) moe_->route(input, s, exec, out);
  return out;
}

void Block::attend(MatView<const float> input, const Batch& batch, LayerScratch& s, Exec& exec,
                   MatView<float> out) const {
  attention_->attend(input, batch, s, exec, out);
}

void Block::ffn_hidden(MatView<const float> input, const Routes& routes, LayerScratch& s, Exec& exec,
                       MatView<float> out) const {
  if (moe_)
    moe_->hidden(input, routes, s, exec, out);
  else
    dense_->hidden(input, s, exec, out);
}

void Block::add_output(Stage stage, MatView<const float> input, const Routes& routes, LayerScratch& s, Exec& exec,
                       MatView<float> x) const {
  s.mixed.resize(x.rows * x.cols);
  MatView<float> mixed(s.mixed.data(), x.rows, x.cols);
  if (stage == Stage::kAttentionOut)
    attention_->weights().o.forward(input, exec, mixed);
  else if (moe_)
    moe_->combine(input, routes, s, exec, mixed);
  else
    dense_->weights().down.forward(input, exec, mixed);
  const DecoderLayer::Norms& norms = layer_.norms();
  const RmsNorm& after = stage == Stage::kAttentionOut ? norms.attention_output : norms.ffn_output;
  if (after.present()) after.forward(mixed, exec.pool, mixed);
  for (size_t t = 0; t < x.rows; ++t) kernels::add(x.row_span(t), mixed.row_span(t), x.row_span(t));
}

}  // namespace fettle::models
