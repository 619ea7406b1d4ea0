#include <algorithm>

#include "engine/llm.h"
#include "eval/logit_source.h"

namespace fettle::eval {
namespace {

class ModelSource final : public LogitSource {
 public:
  ModelSource(const models::Model& model, ThreadPool& pool, size_t context)
      : vocab_(static_cast<size_t>(model.config().vocab_size)), stream_(model, pool, context) {}

  size_t vocab_size() const override { return vocab_; }
  void reset() override { stream_.reset(); }
  void skip(std::span<const int32_t> tokens) override {
    constexpr size_t kChunk = 512;  // the usual prefill batch; larger ones only need more memory
    for (size_t at = 0; at < tokens.size(); at += kChunk)
      stream_.feed(tokens.subspan(at, std::min(kChunk, tokens.size() - at)), models::LogitRows::kLast);
  }
  MatView<const float> feed(std::span<const int32_t> tokens) override {
    return stream_.feed(tokens, models::LogitRows::kAll);
  }

 private:
  size_t vocab_;
  engine::LogitStream stream_;
};

}  // namespace

std::unique_ptr<LogitSource> model_source(const models::Model& model, ThreadPool& pool, size_t context) {
  return std::make_unique<ModelSource>(model, pool, context);
}

}  // namespace fettle::eval
