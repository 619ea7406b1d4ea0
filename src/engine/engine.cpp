#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>

#include "engine/stop_matcher.h"
#include "kv/kv_cache.h"

namespace fettle::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One request from submit to Result. Waiting -> prefilling (prompt not whole in the cache) -> decoding -> finished.
struct Job {
  RequestId id = 0;
  Request request;
  Result result;
  decoding::Sampler sampler;
  StopMatcher stops;
  std::unique_ptr<text::StreamDecoder> decoder;  // null when the checkpoint has no tokenizer
  std::vector<int32_t> history;                  // prompt and generated tokens
  size_t fed = 0;                                // tokens of history in the cache
  size_t limit = 0;                              // history never grows beyond this
  std::optional<kv::SeqId> seq;
  Clock::time_point started, decoding_since;
  bool cancelled = false;

  Job(Request r, const Llm& llm)
      : request(std::move(r)), sampler(request.sampling, llm.model().config().vocab_size), stops(request.stop) {
    history = request.prompt;
    result.prompt_tokens = request.prompt.size();
    result.seed = sampler.seed();
    if (llm.has_tokenizer()) decoder = std::make_unique<text::StreamDecoder>(llm.tokenizer(), request.skip_special);
  }
};

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "none";
}

struct Engine::State {
  State(std::shared_ptr<const Llm> l, const EngineOptions& o, ThreadPool& p, const kv::KvLayout& layout)
      : llm(std::move(l)), options(o), pool(p), cache(layout, o.kv_bytes) {}

  std::shared_ptr<const Llm> llm;
  EngineOptions options;
  ThreadPool& pool;
  kv::KvCache cache;
  std::shared_ptr<models::ForwardScratch> scratch = models::make_scratch();
  RequestId next_id = 1;
  std::deque<std::unique_ptr<Job>> waiting;
  std::vector<std::unique_ptr<Job>> running;
  std::map<RequestId, Result> done;

  void admit();
  void drop_cancelled();
  std::vector<models::SeqTokens> plan(std::vector<Job*>& planned);
  void advance(Job& job, std::span<const float> logits);
  void emit(Job& job, std::string_view text, int32_t token);
  void finish(Job& job, FinishReason reason);
  void remove_finished();
};

namespace {

size_t default_context(const models::ModelConfig& c) {
  return static_cast<size_t>(std::min<int64_t>(c.max_position_embeddings, 8192));
}

}  // namespace

Engine::Engine(std::shared_ptr<const Llm> llm, const EngineOptions& options, ThreadPool& pool) {
  EngineOptions o = options;
  const models::Model& model = llm->model();
  if (o.context == 0) o.context = default_context(model.config());
  if (o.max_seqs == 0 || o.prefill_chunk == 0) fail(ErrorCode::kUsage, "max_seqs and prefill_chunk must be at least 1");
  const kv::KvLayout layout = model.kv_layout(o.kv_dtype);
  if (o.kv_bytes == 0) o.kv_bytes = kv::budget_for(layout, o.context, o.max_seqs);
  state_ = std::make_unique<State>(std::move(llm), o, pool, layout);
}

Engine::~Engine() = default;

size_t Engine::context() const { return state_->options.context; }

RequestId Engine::submit(Request request) {
  State& s = *state_;
  decoding::validate(request.sampling, s.llm->model().config().vocab_size);
  if (request.prompt.empty()) fail(ErrorCode::kUsage, "the prompt has no tokens");
  if (request.prompt.size() >= s.options.context)
    fail(ErrorCode::kResource, "the prompt has {} tokens, the context holds {} (one must stay free)",
         request.prompt.size(), s.options.context);
  for (const std::string& stop : request.stop)
    if (stop.empty()) fail(ErrorCode::kUsage, "stop: empty string");
  auto job = std::make_unique<Job>(std::move(request), *s.llm);
  job->id = s.next_id++;
  job->limit = s.options.context;
  if (job->request.max_tokens >= 0)
    job->limit = std::min(job->limit, job->history.size() + static_cast<size_t>(job->request.max_tokens));
  const RequestId id = job->id;
  s.waiting.push_back(std::move(job));
  return id;
}

// Takes waiting requests in order as long as there is a free place and memory for their whole length.
void Engine::State::admit() {
  while (!waiting.empty() && running.size() < options.max_seqs) {
    Job& job = *waiting.front();
    if (job.cancelled || job.limit == job.history.size()) {
      finish(job, job.cancelled ? FinishReason::kCancelled : FinishReason::kLength);
      waiting.pop_front();
      continue;
    }
    const kv::SeqId seq = cache.create();
    if (!cache.reserve(seq, job.limit)) {
      cache.free(seq);
      if (running.empty()) {
        job.result.error = fmt::format("the KV budget of {} bytes cannot hold {} tokens", options.kv_bytes, job.limit);
        finish(job, FinishReason::kError);
        waiting.pop_front();
        continue;
      }
      return;
    }
    job.seq = seq;
    job.started = Clock::now();
    running.push_back(std::move(waiting.front()));
    waiting.pop_front();
  }
}

void Engine::State::drop_cancelled() {
  for (auto& job : running)
    if (job->cancelled && job->result.finish_reason == FinishReason::kNone) finish(*job, FinishReason::kCancelled);
  remove_finished();
}

// One token for every decoding sequence, then prompt chunks in order of arrival until the chunk budget is spent.
std::vector<models::SeqTokens> Engine::State::plan(std::vector<Job*>& planned) {
  std::vector<models::SeqTokens> batch;
  size_t budget = options.prefill_chunk;
  for (auto& job : running) {
    const size_t left = job->history.size() - job->fed;
    const size_t n = std::min(left, left == 1 ? 1 : budget);
    if (n == 0) continue;
    if (left > 1) budget -= n;
    batch.push_back({*job->seq, std::span(job->history).subspan(job->fed, n)});
    planned.push_back(job.get());
    job->fed += n;
  }
  return batch;
}

bool Engine::step() {
  State& s = *state_;
  s.drop_cancelled();
  s.admit();
  std::vector<Job*> planned;
  const std::vector<models::SeqTokens> batch = s.plan(planned);
  if (!batch.empty()) {
    const MatView<const float> logits =
        s.llm->model().forward(batch, models::LogitRows::kLast, s.cache, *s.scratch, s.pool);
    for (size_t i = 0; i < planned.size(); ++i)
      if (planned[i]->fed == planned[i]->history.size()) s.advance(*planned[i], {logits.row(i), logits.cols});
    s.remove_finished();
  }
  return !s.running.empty() || !s.waiting.empty();
}

// Samples one token and decides whether the sequence ends.
void Engine::State::advance(Job& job, std::span<const float> logits) {
  if (job.result.tokens.empty()) {
    job.result.prompt_seconds = seconds_since(job.started);
    job.decoding_since = Clock::now();
  }
  std::vector<float> row(logits.begin(), logits.end());
  int32_t token = 0;
  try {
    token = job.sampler.sample(row, job.history, job.history.size());
  } catch (const Error& e) {
    job.result.error = e.what();
    return finish(job, FinishReason::kError);
  }
  const auto& stop_ids = llm->stop_ids();
  if (!job.request.ignore_eos && std::binary_search(stop_ids.begin(), stop_ids.end(), token))
    return finish(job, FinishReason::kStop);
  job.result.tokens.push_back(token);
  job.history.push_back(token);
  if (job.decoder)
    emit(job, job.stops.push(job.decoder->push(token)), token);
  else if (job.request.on_text && !job.request.on_text({}, token))
    job.cancelled = true;
  if (job.stops.matched()) return finish(job, FinishReason::kStop);
  if (job.cancelled) return finish(job, FinishReason::kCancelled);
  if (job.history.size() >= job.limit) finish(job, FinishReason::kLength);
}

void Engine::State::emit(Job& job, std::string_view text, int32_t token) {
  job.result.text += text;
  if (job.request.on_text && !job.request.on_text(text, token)) job.cancelled = true;
}

void Engine::State::finish(Job& job, FinishReason reason) {
  if (job.decoder && !job.stops.matched()) {
    std::string rest = job.stops.push(job.decoder->flush());
    rest += job.stops.flush();
    if (!rest.empty()) emit(job, rest, job.result.tokens.empty() ? -1 : job.result.tokens.back());
  }
  if (!job.result.tokens.empty()) job.result.decode_seconds = seconds_since(job.decoding_since);
  job.result.finish_reason = reason;
  if (job.seq) cache.free(*job.seq);
  job.seq.reset();
  done.emplace(job.id, std::move(job.result));
  job.result.finish_reason = reason;
}

void Engine::State::remove_finished() {
  std::erase_if(running, [](const auto& job) { return job->result.finish_reason != FinishReason::kNone; });
}

void Engine::cancel(RequestId id) {
  for (auto& job : state_->running)
    if (job->id == id) job->cancelled = true;
  for (auto& job : state_->waiting)
    if (job->id == id) job->cancelled = true;
}

bool Engine::finished(RequestId id) const { return state_->done.contains(id); }

Result Engine::take(RequestId id) {
  const auto it = state_->done.find(id);
  FETTLE_CHECK(it != state_->done.end());
  Result result = std::move(it->second);
  state_->done.erase(it);
  return result;
}

Result Engine::run(Request request) {
  const RequestId id = submit(std::move(request));
  while (!finished(id)) step();
  return take(id);
}

}  // namespace fettle::engine
