#include "compress/pipeline/calibration.h"

#include <algorithm>
#include <numeric>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/utf8.h"
#include "decode/sampling.h"
#include "io/model_files.h"
#include "kv/kv_cache.h"
#include "models/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fettle::compress {

size_t Calibration::tokens() const {
  size_t n = 0;
  for (const auto& s : samples) n += s.size();
  return n;
}

size_t Calibration::longest() const {
  size_t n = 0;
  for (const auto& s : samples) n = std::max(n, s.size());
  return n;
}

namespace {

using Sample = std::vector<int32_t>;

// `count` of n items, ascending; all of them when count == n. A partial Fisher-Yates shuffle.
std::vector<size_t> choose(size_t n, size_t count, uint64_t seed) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  Random random(seed, 0xCA11B);
  for (size_t i = 0; i < count && count < n; ++i) std::swap(order[i], order[i + random.below(n - i)]);
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

std::string read_text(const std::string& path) {
  constexpr size_t kMaxText = size_t{1} << 30;
  std::string text = read_file(path, kMaxText);
  if (const size_t bad = utf8::first_invalid(text); bad != std::string_view::npos)
    fail(ErrorCode::kInput, "{}: expected UTF-8 text, found an ill-formed sequence at byte {}", path, bad);
  return text;
}

// The tokenizer takes 64 MiB at a time: pieces end behind a line feed or, failing that, between characters.
Sample tokenise(const text::Tokenizer& tokenizer, std::string_view text) {
  constexpr size_t kPiece = size_t{16} << 20;
  Sample out;
  while (!text.empty()) {
    size_t n = std::min(text.size(), kPiece);
    if (n < text.size()) {
      if (const size_t line = text.rfind('\n', n - 1); line != std::string_view::npos)
        n = line + 1;
      else
        while ((static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
    }
    const auto ids = tokenizer.encode(text.substr(0, n), {.add_special = false, .parse_special = false});
    out.insert(out.end(), ids.begin(), ids.end());
    text.remove_prefix(n);
  }
  return out;
}

Calibration from_text(const text::Tokenizer& tokenizer, const CalibrationOptions& o) {
  const Sample ids = tokenise(tokenizer, read_text(o.source));
  const bool bos = tokenizer.adds_bos() && tokenizer.bos();
  const size_t length = static_cast<size_t>(o.seqlen) - (bos ? 1 : 0), want = static_cast<size_t>(o.samples);
  const size_t windows = ids.size() / length;
  if (windows < want)
    fail(ErrorCode::kInput,
         "{}: calibration text is too short: expected {} windows of {} tokens, found {} tokens, enough for {} (lower "
         "--samples or --seqlen, or give more text)",
         o.source, want, length, ids.size(), windows);
  Calibration out;
  for (const size_t w : choose(windows, want, static_cast<uint64_t>(o.seed))) {
    Sample& sample = out.samples.emplace_back();
    if (bos) sample.push_back(*tokenizer.bos());
    const auto from = ids.begin() + static_cast<ptrdiff_t>(w * length);
    sample.insert(sample.end(), from, from + static_cast<ptrdiff_t>(length));
  }
  out.description = fmt::format("{} windows of {} tokens of {}", want, o.seqlen, base_name(o.source));
  return out;
}

Sample chat_sample(const text::Tokenizer& tokenizer, const text::ChatTemplateSet& templates, Json messages) {
  text::ChatRequest request;
  request.messages = std::move(messages);
  request.add_generation_prompt = false;
  if (tokenizer.bos()) request.bos_token = tokenizer.token_text(*tokenizer.bos());
  if (tokenizer.eos()) request.eos_token = tokenizer.token_text(*tokenizer.eos());
  const text::Rendered prompt = text::render_chat(templates.choose(false), request);
  std::vector<text::TextRange> untrusted;
  for (const text::Rendered::Span& span : prompt.spans)
    if (span.from_input) untrusted.push_back({span.begin, span.end});
  Sample ids = tokenizer.encode(prompt.text, {.add_special = false, .parse_special = true, .untrusted = untrusted});
  if (prompt.default_template && tokenizer.adds_bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

Calibration from_jsonl(const std::string& dir, const text::Tokenizer& tokenizer, const CalibrationOptions& o) {
  const std::string text = read_text(o.source);
  const text::ChatTemplateSet templates = text::load_chat_templates(dir);
  std::vector<Sample> lines;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}:{}", o.source, number);
    const Json json = parse_json(line, place);
    const JsonReader reader(json, place);
    Sample ids;
    if (reader.has("messages"))
      ids = chat_sample(tokenizer, templates, reader.at("messages").value());
    else
      ids = tokenizer.encode(reader.at("text").string(), {.add_special = true, .parse_special = false});
    if (ids.size() > static_cast<size_t>(o.seqlen)) ids.resize(static_cast<size_t>(o.seqlen));
    if (ids.size() >= 2) lines.push_back(std::move(ids));
  }
  const size_t want = static_cast<size_t>(o.samples);
  if (lines.size() < want)
    fail(ErrorCode::kInput, "{}: expected {} samples of at least 2 tokens, found {} (lower --samples)", o.source, want,
         lines.size());
  Calibration out;
  for (const size_t i : choose(lines.size(), want, static_cast<uint64_t>(o.seed)))
    out.samples.push_back(std::move(lines[i]));
  out.description = fmt::format("{} samples of up to {} tokens of {}", want, o.seqlen, base_name(o.source));
  return out;
}

// The model writes its own calibration text, `kLanes` sequences at a time.
Calibration from_model(const std::string& dir, const text::Tokenizer& tokenizer, const CalibrationOptions& o,
                       ThreadPool& pool, const CancelToken* cancel) {
  constexpr size_t kLanes = 16;
  const auto start = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
  if (!start)
    fail(ErrorCode::kInput, "{}: the tokenizer has neither BOS nor EOS to start self-generated text with; give --calib",
         dir);
  const auto model = models::Model::load(dir, {.context = o.seqlen}, pool);
  const auto length = static_cast<size_t>(o.seqlen), want = static_cast<size_t>(o.samples);
  const kv::KvLayout layout = model->kv_layout(DType::kBF16);
  decoding::SamplingParams params;
  params.temperature = 1;
  params.top_k = 0;
  params.top_p = 1;
  params.min_p = 0;
  params.seed = o.seed;
  const auto scratch = models::make_scratch();
  Calibration out;
  for (size_t first = 0; first < want; first += kLanes) {
    const size_t lanes = std::min(kLanes, want - first);
    kv::KvCache cache(layout, kv::budget_for(layout, length, lanes));
    std::vector<Sample> samples(lanes, Sample{*start});
    std::vector<decoding::Sampler> samplers;
    std::vector<kv::SeqId> ids;
    for (size_t i = 0; i < lanes; ++i) {
      samplers.emplace_back(params, model->config().vocab_size, static_cast<uint32_t>(first + i));
      ids.push_back(cache.create());
      FETTLE_CHECK(cache.reserve(ids[i], length));
    }
    for (size_t t = 1; t < length; ++t) {
      check_cancel(cancel);
      std::vector<models::SeqTokens> batch;
      for (size_t i = 0; i < lanes; ++i) batch.push_back({ids[i], std::span(samples[i]).last(1)});
      const MatView<const float> logits = model->forward(batch, models::LogitRows::kLast, cache, *scratch, pool);
      for (size_t i = 0; i < lanes; ++i) {
        std::vector<float> row(logits.row(i), logits.row(i) + logits.cols);
        samples[i].push_back(samplers[i].sample(row, samples[i], t));
      }
    }
    for (Sample& s : samples) out.samples.push_back(std::move(s));
  }
  out.description = fmt::format("{} x {} tokens written by the model itself", want, o.seqlen);
  return out;
}

}  // namespace

Calibration load_calibration(const std::string& model, const CalibrationOptions& o, ThreadPool& pool,
                             const CancelToken* cancel) {
  if (o.samples < 1) fail(ErrorCode::kUsage, "--samples: expected at least 1, found {}", o.samples);
  if (o.seqlen < 2) fail(ErrorCode::kUsage, "--seqlen: expected at least 2, found {}", o.seqlen);
  const std::string dir = io::resolve_model(model).path;
  const auto tokenizer = text::load_tokenizer_json(dir);
  if (o.source.empty() || o.source == "self") return from_model(dir, *tokenizer, o, pool, cancel);
  if (o.source.ends_with(".jsonl")) return from_jsonl(dir, *tokenizer, o);
  return from_text(*tokenizer, o);
}

}  // namespace fettle::compress
