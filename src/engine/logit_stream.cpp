#include "engine/llm.h"
#include "kv/kv_cache.h"

namespace fettle::engine {

struct LogitStream::State {
  State(const models::Model& m, ThreadPool& p, size_t context_tokens, const kv::KvLayout& layout)
      : model(m),
        pool(p),
        context(context_tokens),
        cache(layout, kv::budget_for(layout, context_tokens, 1)),
        seq(cache.create()) {}

  const models::Model& model;
  ThreadPool& pool;
  size_t context;
  kv::KvCache cache;
  kv::SeqId seq;
  std::shared_ptr<models::ForwardScratch> scratch = models::make_scratch();
};

LogitStream::LogitStream(const models::Model& model, ThreadPool& pool, size_t context, DType kv_dtype)
    : state_(std::make_unique<State>(model, pool, context, model.kv_layout(kv_dtype))) {}

LogitStream::~LogitStream() = default;

void LogitStream::reset() {
  state_->cache.free(state_->seq);
  state_->seq = state_->cache.create();
}

size_t LogitStream::position() const { return state_->cache.length(state_->seq); }

MatView<const float> LogitStream::feed(std::span<const int32_t> tokens, models::LogitRows rows) {
  State& s = *state_;
  FETTLE_CHECK(!tokens.empty());
  if (position() + tokens.size() > s.context || !s.cache.reserve(s.seq, tokens.size()))
    fail(ErrorCode::kResource, "context of {} tokens is full: {} used, {} more asked for", s.context, position(),
         tokens.size());
  const models::SeqTokens run{s.seq, tokens};
  return s.model.forward({&run, 1}, rows, s.cache, *s.scratch, s.pool);
}

}  // namespace fettle::engine
