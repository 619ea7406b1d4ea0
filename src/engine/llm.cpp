#include "engine/llm.h"

#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "io/gguf.h"
#include "io/model_files.h"
#include "models/gguf_names.h"
#include "models/gguf_tokenizer.h"
#include "text/gguf_vocab.h"

namespace fettle::engine {
namespace {

void add_ids(const JsonReader& r, std::vector<int32_t>& ids) {
  if (r.is_null()) return;
  if (!r.value().is_array()) {
    ids.push_back(static_cast<int32_t>(r.integer(0, INT32_MAX)));
    return;
  }
  for (size_t i = 0; i < r.array().size(); ++i) ids.push_back(static_cast<int32_t>(r.at(i).integer(0, INT32_MAX)));
}

// generation_config.json: only the keys that are present change the defaults; do_sample false means greedy.
void read_generation_config(const io::ModelFiles& files, bool apply, decoding::SamplingParams& p,
                            std::vector<int32_t>& stops) {
  const Json json = io::read_generation_config(files);
  if (json.is_null()) return;
  const JsonReader r(json, path_join(files.path, "generation_config.json"));
  add_ids(r.get("eos_token_id"), stops);
  if (!apply) return;
  p.temperature = static_cast<float>(r.number_or("temperature", p.temperature, 0, 100));
  p.top_k = static_cast<int>(r.integer_or("top_k", p.top_k, -1, INT32_MAX));
  p.top_p = static_cast<float>(r.number_or("top_p", p.top_p, 1e-9, 1));
  p.min_p = static_cast<float>(r.number_or("min_p", p.min_p, 0, 1));
  p.repetition_penalty = static_cast<float>(r.number_or("repetition_penalty", p.repetition_penalty, 1e-9, 10));
  if (!r.boolean_or("do_sample", true)) p.temperature = 0;
}

void read_gguf_sampling(const io::GgufFile& file, decoding::SamplingParams& p) {
  p.temperature = static_cast<float>(file.number_or("general.sampling.temp", p.temperature));
  p.top_k = static_cast<int>(file.number_or("general.sampling.top_k", p.top_k));
  p.top_p = static_cast<float>(file.number_or("general.sampling.top_p", p.top_p));
  p.min_p = static_cast<float>(file.number_or("general.sampling.min_p", p.min_p));
}

void check_tokenizer_fits(const std::string& name, const text::Tokenizer& tokenizer, int64_t vocab) {
  if (static_cast<int64_t>(tokenizer.vocab_size()) > vocab)
    fail(ErrorCode::kInput, "{}: the tokenizer has {} ids, the model only {} embedding rows (vocab_size)", name,
         tokenizer.vocab_size(), vocab);
}

}  // namespace

std::shared_ptr<const Llm> Llm::load(const std::string& model, const Options& options, ThreadPool& pool) {
  const io::ModelFiles files = io::resolve_model(model);
  auto llm = std::make_shared<Llm>();
  llm->name_ = model;
  llm->model_ = models::Model::load(model, options.load, pool);
  for (int64_t id : llm->model_->config().eos_token_ids) llm->stop_ids_.push_back(static_cast<int32_t>(id));
  if (files.kind == io::ModelFiles::Kind::kGguf) {
    const io::GgufFile file = io::GgufFile::open(files.path);
    if (file.has("tokenizer.ggml.tokens")) llm->tokenizer_ = text::make_gguf_tokenizer(models::gguf_vocab(file));
    if (file.has("tokenizer.chat_template"))
      llm->chat_templates_.add(
          "default", text::ChatTemplate::parse(std::string(file.string("tokenizer.chat_template")), files.path));
    if (options.generation_config) read_gguf_sampling(file, llm->sampling_);
  } else {
    if (files.find("tokenizer.json") || files.find("tokenizer.model"))
      llm->tokenizer_ = text::load_tokenizer_json(files.path);
    llm->chat_templates_ = text::load_chat_templates(files.path);
    read_generation_config(files, options.generation_config, llm->sampling_, llm->stop_ids_);
  }
  if (llm->tokenizer_) {
    check_tokenizer_fits(files.path, *llm->tokenizer_, llm->model_->config().vocab_size);
    for (text::TokenId id : llm->tokenizer_->eog_ids()) llm->stop_ids_.push_back(id);
  }
  std::sort(llm->stop_ids_.begin(), llm->stop_ids_.end());
  llm->stop_ids_.erase(std::unique(llm->stop_ids_.begin(), llm->stop_ids_.end()), llm->stop_ids_.end());
  return llm;
}

const text::Tokenizer& Llm::tokenizer() const {
  if (!tokenizer_)
    fail(ErrorCode::kInput, "{}: has no tokenizer (tokenizer.json, tokenizer.model or GGUF vocabulary)", name_);
  return *tokenizer_;
}

std::vector<int32_t> chat_prompt(const Llm& llm, text::ChatRequest request, bool trust_input) {
  const text::Tokenizer& tokenizer = llm.tokenizer();
  if (tokenizer.bos()) request.bos_token = tokenizer.token_text(*tokenizer.bos());
  if (tokenizer.eos()) request.eos_token = tokenizer.token_text(*tokenizer.eos());
  const bool with_tools = request.tools.is_array() && request.tools.size() > 0;
  const text::RenderOptions render;
  const text::Rendered prompt = text::render_chat(llm.chat_templates().choose(with_tools), request, render);
  std::vector<text::TextRange> untrusted;
  for (const text::Rendered::Span& span : prompt.spans)
    if (span.from_input && !trust_input) untrusted.push_back({span.begin, span.end});
  std::vector<int32_t> ids =
      tokenizer.encode(prompt.text, {.add_special = false, .parse_special = true, .untrusted = untrusted});
  // A template writes its own BOS; the stand-in for a missing template cannot know about it.
  if (prompt.default_template && tokenizer.adds_bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

std::shared_ptr<const text::Tokenizer> load_tokenizer(const std::string& model) {
  const io::ModelFiles files = io::resolve_model(model);
  if (files.kind == io::ModelFiles::Kind::kHuggingFace) return text::load_tokenizer_json(files.path);
  return text::make_gguf_tokenizer(models::gguf_vocab(io::GgufFile::open(files.path)));
}

}  // namespace fettle::engine
