#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/thread_pool.h"
#include "decode/sampling.h"
#include "models/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fettle::engine {

// A model with its text side: weights, tokenizer, chat templates and the generation defaults of the checkpoint.
class Llm {
 public:
  struct Options {
    models::LoadOptions load;
    bool generation_config = true;  // apply generation_config.json / general.sampling.* defaults
  };
  // Throws kInput when tokenizer and config disagree (ids beyond the embedding rows).
  static std::shared_ptr<const Llm> load(const std::string& model, const Options& options, ThreadPool& pool);

  const std::string& name() const { return name_; }  // as given
  const models::Model& model() const { return *model_; }
  const text::Tokenizer& tokenizer() const;  // throws kInput when the checkpoint has none
  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  const text::ChatTemplateSet& chat_templates() const { return chat_templates_; }
  const decoding::SamplingParams& sampling_defaults() const { return sampling_; }
  const std::vector<int32_t>& stop_ids() const {
    return stop_ids_;
  }  // union of config, generation_config, tokenizer, EOG

 private:
  std::string name_;
  std::shared_ptr<const models::Model> model_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  text::ChatTemplateSet chat_templates_;
  decoding::SamplingParams sampling_;
  std::vector<int32_t> stop_ids_;
};

// Token ids of a rendered conversation. The template writes BOS where the model wants one; only
// without a template the tokenizer's rule counts. What users
// wrote is never read as a control token unless trust_input. `request` needs no bos/eos: they are filled in.
std::vector<int32_t> chat_prompt(const Llm& llm, text::ChatRequest request, bool trust_input = false);

// Loads only the text side.
std::shared_ptr<const text::Tokenizer> load_tokenizer(const std::string& model);

// Single-sequence convenience for scoring and benchmarks: feeds tokens in order, returns logits.
class LogitStream {
 public:
  LogitStream(const models::Model& model, ThreadPool& pool, size_t context, DType kv_dtype = DType::kBF16);
  ~LogitStream();
  void reset();  // empty context
  size_t position() const;
  // Appends tokens (split into chunks of at most `chunk`); returns [tokens, V] or [1, V], valid until the next call.
  // Throws kResource when the context is full.
  MatView<const float> feed(std::span<const int32_t> tokens, models::LogitRows rows);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle::engine
