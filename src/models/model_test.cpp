#include "models/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/random.h"
#include "models/block.h"
#include "models/reference_model.h"

namespace fettle::models {
namespace {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fettle-model-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Json tiny(const std::string& type) {
  Json c = Json::object();
  c["model_type"] = type;
  c["hidden_size"] = 64;
  c["intermediate_size"] = 96;
  c["num_hidden_layers"] = 3;
  c["num_attention_heads"] = 4;
  c["num_key_value_heads"] = 2;
  c["head_dim"] = 16;
  c["vocab_size"] = 101;
  c["max_position_embeddings"] = 512;
  c["rms_norm_eps"] = 1e-5;
  c["rope_theta"] = 10000.0;
  c["hidden_act"] = "silu";
  c["tie_word_embeddings"] = false;
  return c;
}

Json with(Json c, std::initializer_list<std::pair<const char*, Json>> members) {
  for (const auto& [key, value] : members) c[key] = value;
  return c;
}

Json object(std::initializer_list<std::pair<const char*, Json>> members) { return with(Json::object(), members); }

std::vector<std::pair<std::string, Json>> cases() {
  const Json gemma = with(tiny("gemma2"), {{"hidden_activation", "gelu_pytorch_tanh"},
                                           {"query_pre_attn_scalar", 24},
                                           {"sliding_window", 7},
                                           {"tie_word_embeddings", true}});
  Json gemma3 = with(gemma, {{"model_type", "gemma3_text"},
                             {"sliding_window_pattern", 2},
                             {"rope_local_base_freq", 500.0},
                             {"rope_scaling", object({{"rope_type", "linear"}, {"factor", 8.0}})}});
  return {
      {"llama", tiny("llama")},
      {"llama_tied_bias", with(tiny("llama"), {{"tie_word_embeddings", true}, {"attention_bias", true}})},
      {"llama3_rope", with(tiny("llama"), {{"rope_scaling", object({{"rope_type", "llama3"},
                                                                    {"factor", 8.0},
                                                                    {"low_freq_factor", 1.0},
                                                                    {"high_freq_factor", 4.0},
                                                                    {"original_max_position_embeddings", 64}})}})},
      {"mistral_window", with(tiny("mistral"), {{"sliding_window", 5}})},
      {"mistral_wide_heads", with(tiny("mistral"), {{"head_dim", 32}})},
      {"qwen2", tiny("qwen2")},
      {"qwen2_window",
       with(tiny("qwen2"), {{"use_sliding_window", true}, {"sliding_window", 6}, {"max_window_layers", 1}})},
      {"qwen3", with(tiny("qwen3"), {{"head_dim", 24}})},
      {"gemma2", gemma},
      {"gemma3_text", gemma3},
      {"phi3", with(tiny("phi3"), {{"partial_rotary_factor", 0.5}, {"sliding_window", 9}})},
      {"mixtral", with(tiny("mixtral"), {{"num_local_experts", 5}, {"num_experts_per_tok", 2}})},
      {"qwen3_moe",
       with(tiny("qwen3_moe"),
            {{"num_experts", 6}, {"num_experts_per_tok", 3}, {"moe_intermediate_size", 40}, {"norm_topk_prob", true}})},
  };
}

std::vector<int32_t> random_tokens(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> out;
  for (size_t i = 0; i < n; ++i) out.push_back(static_cast<int32_t>(random.below(101)));
  return out;
}

// One sequence through the engine in chunks; all logits.
std::vector<std::vector<float>> run(const Model& model, const std::vector<int32_t>& tokens, size_t chunk,
                                    ThreadPool& pool, DType kv_dtype = DType::kF32) {
  const kv::KvLayout layout = model.kv_layout(kv_dtype);
  kv::KvCache cache(layout, kv::budget_for(layout, tokens.size(), 1));
  const kv::SeqId seq = cache.create();
  EXPECT_TRUE(cache.reserve(seq, tokens.size()));
  auto scratch = make_scratch();
  std::vector<std::vector<float>> out;
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const SeqTokens part{seq, std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at))};
    const MatView<const float> logits = model.forward({&part, 1}, LogitRows::kAll, cache, *scratch, pool);
    for (size_t i = 0; i < logits.rows; ++i) out.emplace_back(logits.row(i), logits.row(i) + logits.cols);
  }
  return out;
}

double max_difference(const std::vector<std::vector<float>>& got, const std::vector<std::vector<double>>& want) {
  double worst = 0;
  for (size_t t = 0; t < want.size(); ++t)
    for (size_t v = 0; v < want[t].size(); ++v)
      worst = std::max(worst, std::abs(static_cast<double>(got[t][v]) - want[t][v]));
  return worst;
}

class Families : public testing::TestWithParam<std::pair<std::string, Json>> {};

// F32 weights, F32 cache: the engine differs from the double-precision oracle by round-off only (logits are of order
// 1).
TEST_P(Families, MatchTheReferenceForward) {
  TempDir dir;
  const ref::Checkpoint checkpoint = ref::random_checkpoint(GetParam().second, 11);
  ref::write_hf(checkpoint, dir.path());
  ThreadPool pool(2);
  const auto model = Model::load(dir.path(), {}, pool);
  const std::vector<int32_t> tokens = random_tokens(37, 5);
  const auto want = ref::forward(checkpoint, tokens);
  EXPECT_LT(max_difference(run(*model, tokens, 37, pool), want), 1e-4);
}

TEST_P(Families, ChunksAndThreadsGiveTheSameBits) {
  TempDir dir;
  ref::write_hf(ref::random_checkpoint(GetParam().second, 12), dir.path());
  ThreadPool one(1), three(3);
  const auto model = Model::load(dir.path(), {}, one);
  const std::vector<int32_t> tokens = random_tokens(70, 6);
  const auto whole = run(*model, tokens, 70, one, DType::kBF16);
  EXPECT_EQ(run(*model, tokens, 70, three, DType::kBF16), whole) << "threads";
  EXPECT_EQ(run(*model, tokens, 7, one, DType::kBF16), whole) << "chunks of 7";
  EXPECT_EQ(run(*model, tokens, 1, one, DType::kBF16), whole) << "token by token";
}

// A batch of three sequences of different lengths equals each sequence alone.
TEST_P(Families, BatchedEqualsSingle) {
  TempDir dir;
  ref::write_hf(ref::random_checkpoint(GetParam().second, 13), dir.path());
  ThreadPool pool(2);
  const auto model = Model::load(dir.path(), {}, pool);
  const kv::KvLayout layout = model->kv_layout(DType::kBF16);
  kv::KvCache cache(layout, kv::budget_for(layout, 512, 3));
  std::vector<std::vector<int32_t>> prompts = {random_tokens(5, 1), random_tokens(33, 2), random_tokens(1, 3)};
  std::vector<SeqTokens> batch;
  for (const auto& prompt : prompts) {
    batch.push_back({cache.create(), prompt});
    ASSERT_TRUE(cache.reserve(batch.back().seq, prompt.size()));
  }
  auto scratch = make_scratch();
  const MatView<const float> logits = model->forward(batch, LogitRows::kLast, cache, *scratch, pool);
  ASSERT_EQ(logits.rows, prompts.size());
  std::vector<std::vector<float>> got;
  for (size_t i = 0; i < prompts.size(); ++i) got.emplace_back(logits.row(i), logits.row(i) + logits.cols);
  for (size_t i = 0; i < prompts.size(); ++i)
    EXPECT_EQ(got[i], run(*model, prompts[i], 512, pool, DType::kBF16).back()) << i;
}

// Cut at its stages, a block gives the bits of the whole, in a cache of one layer, and lists every linear once.
TEST_P(Families, StagesOfABlockComposeToTheBlock) {
  TempDir dir;
  ref::write_hf(ref::random_checkpoint(GetParam().second, 14), dir.path());
  ThreadPool pool(2);
  const auto model = BlockModel::open(dir.path(), {}, pool);
  const std::vector<int32_t> tokens = random_tokens(33, 7);
  const auto hidden = static_cast<size_t>(model->config().hidden_size);
  std::vector<float> whole(tokens.size() * hidden);
  MatView<float> x(whole.data(), tokens.size(), hidden);
  model->embed(tokens, x);
  std::vector<float> staged = whole;
  MatView<float> y(staged.data(), tokens.size(), hidden);
  auto scratch = make_scratch();
  LayerScratch layer_scratch;
  Exec exec{pool, layer_scratch.matmul, kernels::ActMode::kA16, nullptr};
  for (int i = 0; i < model->config().num_hidden_layers; ++i) {
    const Block block = model->block(i);
    for (const BlockLinear& l : block.linears())
      EXPECT_EQ(l.linear->in_features(), static_cast<int64_t>(block.width(l.stage)));
    const kv::KvLayout layout = model->kv_layout(i);
    kv::KvCache cache(layout, kv::budget_for(layout, tokens.size(), 2));
    const auto run_of = [&] {
      const SeqTokens run{cache.create(), tokens};
      EXPECT_TRUE(cache.reserve(run.seq, tokens.size()));
      return run;
    };
    block.forward(x, model->begin(run_of(), cache, *scratch), layer_scratch, exec);
    const Batch batch = model->begin(run_of(), cache, *scratch);
    const auto buffer = [&](Stage stage) {
      return std::vector<float>(block.rows(stage, tokens.size()) * block.width(stage));
    };
    std::vector<float> in = buffer(Stage::kAttentionIn), out = buffer(Stage::kAttentionOut),
                       down = buffer(Stage::kFfnOut);
    MatView<float> input(in.data(), tokens.size(), hidden),
        attended(out.data(), tokens.size(), block.width(Stage::kAttentionOut));
    block.normed(Stage::kAttentionIn, y, pool, input);
    block.attend(input, batch, layer_scratch, exec, attended);
    block.add_output(Stage::kAttentionOut, attended, {}, layer_scratch, exec, y);
    block.normed(Stage::kFfnIn, y, pool, input);
    const Routes routes = block.routes(input, layer_scratch, exec);
    MatView<float> h(down.data(), block.rows(Stage::kFfnOut, tokens.size()), block.width(Stage::kFfnOut));
    EXPECT_EQ(routes.size(), block.sparse() ? h.rows : 0);
    block.ffn_hidden(input, routes, layer_scratch, exec, h);
    block.add_output(Stage::kFfnOut, h, routes, layer_scratch, exec, y);
    ASSERT_EQ(staged, whole) << "block " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Families, testing::ValuesIn(cases()), [](const auto& i) { return i.param.first; });

std::string load_error(
    const Json& config, const std::function<void(ref::Checkpoint&)>& damage = [](ref::Checkpoint&) {}) {
  TempDir dir;
  ref::Checkpoint checkpoint = ref::random_checkpoint(tiny("llama"), 1);
  checkpoint.config = config;
  damage(checkpoint);
  ref::write_hf(checkpoint, dir.path());
  ThreadPool pool(1);
  try {
    Model::load(dir.path(), {}, pool);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Load, NamesWhatIsWrong) {
  const auto has = [](const std::string& text, std::initializer_list<const char*> parts) {
    for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " not in: " << text;
  };
  has(load_error(with(tiny("llama"), {{"model_type", "lama"}})),
      {"config.json", "lama", "known:", "qwen3_moe", "nearest: llama"});
  has(load_error(with(tiny("llama"), {{"hidden_size", 128}})), {"embed_tokens", "128", "64"});
  has(load_error(with(tiny("llama"), {{"num_key_value_heads", 3}})), {"num_key_value_heads", "does not divide"});
  has(load_error(with(tiny("llama"), {{"rms_norm_eps", "x"}})), {"rms_norm_eps", "expected number", "string"});
  has(load_error(with(tiny("llama"), {{"final_logit_softcapping", 30.0}})),
      {"final_logit_softcapping", "changes the computation"});
  has(load_error(with(tiny("llama"), {{"num_hidden_layers", 5}})), {"model.layers.3", "missing"});
  has(load_error(with(tiny("llama"), {{"rope_scaling", object({{"rope_type", "llama3"}})}})),
      {"rope_scaling", "factor"});
  has(load_error(tiny("llama"), [](ref::Checkpoint& c) { c.tensors.erase("model.norm.weight"); }),
      {"model.norm.weight", "missing"});
  has(load_error(tiny("llama"), [](ref::Checkpoint& c) { c.tensors["model.norm.weight"].second[3] = NAN; }),
      {"model.norm.weight", "element 3", "nan"});
}

}  // namespace
}  // namespace fettle::models
