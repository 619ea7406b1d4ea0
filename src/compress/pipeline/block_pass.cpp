#include "compress/pipeline/block_pass.h"

#include <algorithm>

#include "base/error.h"

namespace fettle::compress {

using models::Stage;

namespace {

std::vector<size_t> lengths(const std::vector<std::vector<int32_t>>& samples, size_t factor) {
  std::vector<size_t> out;
  for (const auto& s : samples) out.push_back(s.size() * factor);
  return out;
}

MatView<float> mat(AlignedBuffer<float>& buffer, size_t rows, size_t cols) {
  buffer.resize(rows * cols);
  return {buffer.data(), rows, cols};
}

bool is_norm(Stage stage) { return stage == Stage::kAttentionIn || stage == Stage::kFfnIn; }

}  // namespace

Stream::Stream(models::BlockModel& model, const std::vector<std::vector<int32_t>>& samples,
               const std::string& spill_dir, ThreadPool& pool)
    : model_(model),
      tokens_(samples),
      spill_dir_(spill_dir),
      pool_(pool),
      x_(lengths(samples, 1), static_cast<size_t>(model.config().hidden_size), spill_dir),
      forward_scratch_(models::make_scratch()) {
  for (size_t i = 0; i < samples.size(); ++i) {
    model.embed(samples[i], x_.sample(i));
    x_.done(i);
  }
}

void Stream::with_batch(int block, size_t i, const std::function<void(const models::Batch&)>& body) {
  const kv::KvLayout layout = model_.kv_layout(block);
  kv::KvCache cache(layout, kv::budget_for(layout, tokens_[i].size(), 1));
  const models::SeqTokens run{cache.create(), tokens_[i]};
  FETTLE_CHECK(cache.reserve(run.seq, tokens_[i].size()));
  body(model_.begin(run, cache, *forward_scratch_));
}

StreamStore Stream::store(const models::Block& block, Stage stage) const {
  return StreamStore(lengths(tokens_, block.rows(stage, 1)), block.width(stage), spill_dir_);
}

void Stream::forward(const models::Block& block) {
  models::Exec e = exec();
  for (size_t i = 0; i < samples(); ++i) {
    with_batch(block.index(), i, [&](const models::Batch& batch) { block.forward(x_.sample(i), batch, scratch_, e); });
    x_.done(i);
  }
}

BlockPass::BlockPass(Stream& stream, const models::Block& block, Mode mode)
    : stream_(stream), block_(block), mode_(mode) {}

MatView<float> BlockPass::normed(Stage stage, MatView<const float> x) {
  MatView<float> out = mat(normed_, x.rows, x.cols);
  block_.normed(stage, x, stream_.pool(), out);
  return out;
}

void BlockPass::advance(Stage stage) {
  if (mode_ == Mode::kNaive || stage == Stage::kAttentionIn) return;
  models::Exec exec = stream_.exec();
  if (stage == Stage::kAttentionOut || stage == Stage::kFfnOut) hidden_.emplace(stream_.store(block_, stage));
  for (size_t i = 0; i < stream_.samples(); ++i) {
    const MatView<float> x = stream_.x().sample(i);
    if (stage == Stage::kAttentionOut) {
      const MatView<float> in = normed(Stage::kAttentionIn, x);
      stream_.with_batch(block_.index(), i, [&](const models::Batch& batch) {
        block_.attend(in, batch, stream_.scratch(), exec, hidden_->sample(i));
      });
    } else if (stage == Stage::kFfnIn) {
      block_.add_output(Stage::kAttentionOut, hidden_->sample(i), {}, stream_.scratch(), exec, x);
    } else {
      const MatView<float> in = normed(Stage::kFfnIn, x);
      block_.ffn_hidden(in, block_.routes(in, stream_.scratch(), exec), stream_.scratch(), exec, hidden_->sample(i));
    }
    stream_.x().done(i);
    hidden_->done(i);
  }
  if (stage == Stage::kFfnIn) hidden_.reset();
}

models::Routes BlockPass::routes(size_t i) {
  if (!block_.sparse()) return {};
  models::Exec exec = stream_.exec();
  const MatView<const float> in =
      mode_ == Mode::kNaive ? naive_input(Stage::kFfnIn, i) : normed(Stage::kFfnIn, stream_.x().sample(i));
  return block_.routes(in, stream_.scratch(), exec);
}

MatView<const float> BlockPass::naive_input(Stage stage, size_t i) {
  models::Exec exec = stream_.exec();
  models::LayerScratch& s = stream_.scratch();
  const MatView<float> source = stream_.x().sample(i);
  const MatView<float> x = mat(x_, source.rows, source.cols);
  std::copy_n(source.data, source.rows * source.cols, x.data);
  const MatView<float> in = normed(Stage::kAttentionIn, x);
  if (stage == Stage::kAttentionIn) return in;
  const MatView<float> attended = mat(extra_, x.rows, block_.width(Stage::kAttentionOut));
  stream_.with_batch(block_.index(), i,
                     [&](const models::Batch& batch) { block_.attend(in, batch, s, exec, attended); });
  if (stage == Stage::kAttentionOut) return attended;
  block_.add_output(Stage::kAttentionOut, attended, {}, s, exec, x);
  const MatView<float> ffn = normed(Stage::kFfnIn, x);
  if (stage == Stage::kFfnIn) return ffn;
  const MatView<float> h = mat(extra_, block_.rows(stage, x.rows), block_.width(stage));
  block_.ffn_hidden(ffn, block_.routes(ffn, s, exec), s, exec, h);
  return h;
}

MatView<const float> BlockPass::input(Stage stage, size_t i, const models::Routes* routes) {
  if (mode_ == Mode::kNaive) return naive_input(stage, i);
  if (is_norm(stage)) return normed(stage, stream_.x().sample(i));
  if (stage == Stage::kFfnOut && routes != nullptr && block_.sparse()) {
    models::Exec exec = stream_.exec();
    const MatView<const float> in = normed(Stage::kFfnIn, stream_.x().sample(i));
    const MatView<float> h = mat(extra_, routes->size(), block_.width(stage));
    block_.ffn_hidden(in, *routes, stream_.scratch(), exec, h);
    return h;
  }
  return hidden_->sample(i);
}

void BlockPass::visit(Stage stage, const std::function<void(const StageInput&)>& body) {
  const bool ffn = stage == Stage::kFfnIn || stage == Stage::kFfnOut;
  for (size_t i = 0; i < stream_.samples(); ++i) {
    const models::Routes routes = ffn ? this->routes(i) : models::Routes{};
    body({i, input(stage, i), routes});
    stream_.x().done(i);
    if (hidden_) hidden_->done(i);
  }
}

void BlockPass::finish() {
  if (mode_ == Mode::kNaive) return stream_.forward(block_);
  models::Exec exec = stream_.exec();
  for (size_t i = 0; i < stream_.samples(); ++i) {
    const models::Routes routes = this->routes(i);
    block_.add_output(Stage::kFfnOut, hidden_->sample(i), routes, stream_.scratch(), exec, stream_.x().sample(i));
    stream_.x().done(i);
  }
  hidden_.reset();
}

}  // namespace fettle::compress
