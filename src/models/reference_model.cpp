#include "models/reference_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "io/safetensors.h"

namespace fettle::models::ref {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

// Reads config keys with the upstream defaults of each family.
struct Keys {
  const Json& c;
  std::string type() const { return c.find("model_type")->as_string(); }
  double number(const char* key, double fallback) const {
    const Json* v = c.find(key);
    return v && !v->is_null() ? v->as_double() : fallback;
  }
  int64_t integer(const char* key, int64_t fallback) const {
    return static_cast<int64_t>(number(key, static_cast<double>(fallback)));
  }
  bool flag(const char* key) const {
    const Json* v = c.find(key);
    return v && v->is_bool() && v->as_bool();
  }
  bool gemma() const { return type().starts_with("gemma"); }
  bool moe() const { return type() == "mixtral" || type() == "qwen3_moe"; }
  int64_t hidden() const { return integer("hidden_size", 0); }
  int64_t layers() const { return integer("num_hidden_layers", 0); }
  int64_t heads() const { return integer("num_attention_heads", 0); }
  int64_t kv_heads() const { return integer("num_key_value_heads", heads()); }
  int64_t head_dim() const { return integer("head_dim", hidden() / heads()); }
  int64_t vocab() const { return integer("vocab_size", 0); }
  bool qk_norm() const { return type().starts_with("qwen3") || type() == "gemma3_text"; }
  bool qkv_bias() const { return type() == "qwen2" || flag("attention_bias"); }
  bool o_bias() const { return type() != "qwen2" && flag("attention_bias"); }
  bool tied() const {
    const Json* v = c.find("tie_word_embeddings");
    return v ? v->as_bool() : gemma();
  }
  int64_t experts() const { return type() == "mixtral" ? integer("num_local_experts", 0) : integer("num_experts", 0); }
  int64_t window(int64_t layer) const {
    const int64_t w = integer("sliding_window", 0);
    if (type() == "gemma2") return layer % 2 == 0 ? w : 0;
    if (type() == "gemma3_text") return (layer + 1) % integer("sliding_window_pattern", 6) != 0 ? w : 0;
    if (type().starts_with("qwen"))
      return flag("use_sliding_window") && layer >= integer("max_window_layers", 0) ? w : 0;
    return w;
  }
};

double bf16(double x) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  return std::bit_cast<float>((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000u);
}

struct Spec {
  std::string name;
  std::vector<int64_t> shape;
  bool norm;
};

std::vector<Spec> tensor_list(const Keys& k) {
  std::vector<Spec> out;
  const int64_t h = k.hidden(), q = k.heads() * k.head_dim(), kv = k.kv_heads() * k.head_dim();
  const int64_t ffn = k.integer("intermediate_size", 0);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    out.push_back({name + ".weight", {rows, cols}, false});
  };
  const auto vec = [&](const std::string& name, int64_t n, bool norm) { out.push_back({name, {n}, norm}); };
  matrix("model.embed_tokens", k.vocab(), h);
  for (int64_t i = 0; i < k.layers(); ++i) {
    const std::string p = fmt::format("model.layers.{}.", i), a = p + "self_attn.";
    vec(p + "input_layernorm.weight", h, true);
    vec(p + "post_attention_layernorm.weight", h, true);
    if (k.gemma()) {
      vec(p + "pre_feedforward_layernorm.weight", h, true);
      vec(p + "post_feedforward_layernorm.weight", h, true);
    }
    if (k.type() == "phi3") {
      matrix(a + "qkv_proj", q + 2 * kv, h);
      matrix(p + "mlp.gate_up_proj", 2 * ffn, h);
      matrix(p + "mlp.down_proj", h, ffn);
      matrix(a + "o_proj", h, q);
      continue;
    }
    matrix(a + "q_proj", q, h);
    matrix(a + "k_proj", kv, h);
    matrix(a + "v_proj", kv, h);
    matrix(a + "o_proj", h, q);
    if (k.qkv_bias()) {
      vec(a + "q_proj.bias", q, false);
      vec(a + "k_proj.bias", kv, false);
      vec(a + "v_proj.bias", kv, false);
    }
    if (k.o_bias()) vec(a + "o_proj.bias", h, false);
    if (k.qk_norm()) {
      vec(a + "q_norm.weight", k.head_dim(), true);
      vec(a + "k_norm.weight", k.head_dim(), true);
    }
    if (k.type() == "mixtral") {
      matrix(p + "block_sparse_moe.gate", k.experts(), h);
      for (int64_t e = 0; e < k.experts(); ++e) {
        const std::string x = fmt::format("{}block_sparse_moe.experts.{}.", p, e);
        matrix(x + "w1", ffn, h);
        matrix(x + "w3", ffn, h);
        matrix(x + "w2", h, ffn);
      }
    } else if (k.type() == "qwen3_moe") {
      const int64_t width = k.integer("moe_intermediate_size", 0);
      matrix(p + "mlp.gate", k.experts(), h);
      for (int64_t e = 0; e < k.experts(); ++e) {
        const std::string x = fmt::format("{}mlp.experts.{}.", p, e);
        matrix(x + "gate_proj", width, h);
        matrix(x + "up_proj", width, h);
        matrix(x + "down_proj", h, width);
      }
    } else {
      matrix(p + "mlp.gate_proj", ffn, h);
      matrix(p + "mlp.up_proj", ffn, h);
      matrix(p + "mlp.down_proj", h, ffn);
    }
  }
  vec("model.norm.weight", h, true);
  if (!k.tied()) matrix("lm_head", k.vocab(), h);
  return out;
}

// Double-precision forward of one checkpoint.
class Net {
 public:
  explicit Net(const Checkpoint& c) : w_(c), k_{c.config} {}

  Rows run(const std::vector<int32_t>& tokens) const {
    Rows x;
    const auto& table = tensor("model.embed_tokens.weight");
    const auto h = static_cast<size_t>(k_.hidden());
    const double scale = k_.gemma() ? bf16(std::sqrt(static_cast<double>(h))) : 1.0;
    for (int32_t id : tokens) {
      Row row(h);
      for (size_t c = 0; c < h; ++c) row[c] = table[static_cast<size_t>(id) * h + c] * scale;
      x.push_back(row);
    }
    for (int64_t i = 0; i < k_.layers(); ++i) layer(x, i);
    const double cap =
        k_.type() == "gemma2" ? k_.number("final_logit_softcapping", 30.0) : k_.number("final_logit_softcapping", 0.0);
    Rows out;
    for (const Row& row : x) {
      Row logits = linear(k_.tied() ? "model.embed_tokens" : "lm_head", norm("model.norm.weight", row));
      if (cap > 0)
        for (double& v : logits) v = cap * std::tanh(v / cap);
      out.push_back(logits);
    }
    return out;
  }

 private:
  const std::vector<float>& tensor(const std::string& name) const {
    const auto it = w_.tensors.find(name);
    if (it == w_.tensors.end()) fail(ErrorCode::kInternal, "reference checkpoint lacks {}", name);
    return it->second.second;
  }

  Row linear(const std::string& module, const Row& x) const {
    const auto& w = tensor(module + ".weight");
    Row y(w.size() / x.size(), 0.0);
    for (size_t n = 0; n < y.size(); ++n)
      for (size_t c = 0; c < x.size(); ++c) y[n] += static_cast<double>(w[n * x.size() + c]) * x[c];
    if (const auto it = w_.tensors.find(module + ".bias"); it != w_.tensors.end())
      for (size_t n = 0; n < y.size(); ++n) y[n] += it->second.second[n];
    return y;
  }

  Row norm(const std::string& name, const Row& x) const {
    const auto& w = tensor(name);
    double square = 0;
    for (double v : x) square += v * v;
    const double r = 1.0 / std::sqrt(square / static_cast<double>(x.size()) + k_.number("rms_norm_eps", 1e-6));
    Row y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * r * ((k_.gemma() ? 1.0 : 0.0) + w[i]);
    return y;
  }

  // Plain, linear and llama3 scaling: enough for an oracle; the other scalings have tests of their own.
  double frequency(size_t pair, size_t dim, bool local) const {
    double theta = k_.number("rope_theta", 10000.0);
    if (local) theta = k_.number("rope_local_base_freq", 10000.0);
    const double f = std::pow(theta, -2.0 * static_cast<double>(pair) / static_cast<double>(dim));
    const Json* scaling = k_.c.find("rope_scaling");
    if (local || !scaling || scaling->is_null()) return f;
    const Keys s{*scaling};
    const std::string kind = scaling->find("rope_type")->as_string();
    if (kind == "linear") return f / s.number("factor", 1);
    if (kind != "llama3") fail(ErrorCode::kInternal, "reference has no rope type {}", kind);
    const double original = s.number("original_max_position_embeddings", 0), wavelength = 2 * std::numbers::pi / f;
    const double low = s.number("low_freq_factor", 1), high = s.number("high_freq_factor", 4),
                 factor = s.number("factor", 1);
    if (wavelength < original / high) return f;
    if (wavelength > original / low) return f / factor;
    const double smooth = (original / wavelength - low) / (high - low);
    return f * ((1 - smooth) / factor + smooth);
  }

  void rotate(Row& head, size_t position, bool local) const {
    const auto dim = static_cast<size_t>(static_cast<double>(head.size()) * k_.number("partial_rotary_factor", 1.0));
    for (size_t i = 0; i < dim / 2; ++i) {
      const double angle = static_cast<double>(position) * frequency(i, dim, local);
      const double a = head[i], b = head[i + dim / 2];
      head[i] = a * std::cos(angle) - b * std::sin(angle);
      head[i + dim / 2] = b * std::cos(angle) + a * std::sin(angle);
    }
  }

  std::vector<Rows> heads_of(const Rows& x, size_t count, const std::string& norm_name, bool rope, bool local) const {
    std::vector<Rows> out(x.size());
    const auto d = static_cast<size_t>(k_.head_dim());
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t h = 0; h < count; ++h) {
        Row head(x[t].begin() + static_cast<ptrdiff_t>(h * d), x[t].begin() + static_cast<ptrdiff_t>((h + 1) * d));
        if (!norm_name.empty()) head = norm(norm_name, head);
        if (rope) rotate(head, t, local);
        out[t].push_back(head);
      }
    return out;
  }

  Rows attention(const Rows& x, int64_t layer) const {
    const std::string a = fmt::format("model.layers.{}.self_attn.", layer);
    const auto h = static_cast<size_t>(k_.heads()), hk = static_cast<size_t>(k_.kv_heads()),
               d = static_cast<size_t>(k_.head_dim());
    Rows q, k, v;
    for (const Row& row : x) {
      if (k_.type() == "phi3") {
        const Row all = linear(a + "qkv_proj", row);
        const auto cut = [&](size_t from, size_t n) {
          return Row(all.begin() + static_cast<ptrdiff_t>(from), all.begin() + static_cast<ptrdiff_t>(from + n));
        };
        q.push_back(cut(0, h * d));
        k.push_back(cut(h * d, hk * d));
        v.push_back(cut((h + hk) * d, hk * d));
      } else {
        q.push_back(linear(a + "q_proj", row));
        k.push_back(linear(a + "k_proj", row));
        v.push_back(linear(a + "v_proj", row));
      }
    }
    const int64_t window = k_.window(layer);
    const bool local = k_.type() == "gemma3_text" && window > 0;
    const auto qh = heads_of(q, h, k_.qk_norm() ? a + "q_norm.weight" : "", true, local);
    const auto kh = heads_of(k, hk, k_.qk_norm() ? a + "k_norm.weight" : "", true, local);
    const auto vh = heads_of(v, hk, "", false, local);
    const double scale = 1.0 / std::sqrt(k_.gemma() ? k_.number("query_pre_attn_scalar", 256) : static_cast<double>(d));
    const double cap = k_.type() == "gemma2" ? k_.number("attn_logit_softcapping", 50.0) : 0.0;
    Rows out;
    for (size_t i = 0; i < x.size(); ++i) {
      Row joined;
      for (size_t n = 0; n < h; ++n) {
        const size_t kv = n / (h / hk);
        Row scores;
        std::vector<size_t> keys;
        for (size_t j = 0; j <= i; ++j) {
          if (window > 0 && static_cast<int64_t>(i - j) >= window) continue;
          double s = 0;
          for (size_t c = 0; c < d; ++c) s += qh[i][n][c] * kh[j][kv][c];
          s *= scale;
          scores.push_back(cap > 0 ? cap * std::tanh(s / cap) : s);
          keys.push_back(j);
        }
        const double top = *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (double& s : scores) sum += s = std::exp(s - top);
        Row o(d, 0.0);
        for (size_t m = 0; m < keys.size(); ++m)
          for (size_t c = 0; c < d; ++c) o[c] += scores[m] / sum * vh[keys[m]][kv][c];
        joined.insert(joined.end(), o.begin(), o.end());
      }
      out.push_back(linear(a + "o_proj", joined));
    }
    return out;
  }

  double act(double g) const {
    if (!k_.gemma()) return g / (1.0 + std::exp(-g));
    return 0.5 * g * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (g + 0.044715 * g * g * g)));
  }

  Row gated(const Row& x, const std::string& gate, const std::string& up, const std::string& down) const {
    Row g = linear(gate, x);
    const Row u = linear(up, x);
    for (size_t i = 0; i < g.size(); ++i) g[i] = act(g[i]) * u[i];
    return linear(down, g);
  }

  Row ffn(const Row& x, int64_t layer) const {
    const std::string p = fmt::format("model.layers.{}.", layer);
    if (k_.type() == "phi3") {
      const Row both = linear(p + "mlp.gate_up_proj", x);
      Row g(both.size() / 2);
      for (size_t i = 0; i < g.size(); ++i) g[i] = act(both[i]) * both[i + g.size()];
      return linear(p + "mlp.down_proj", g);
    }
    if (!k_.moe()) return gated(x, p + "mlp.gate_proj", p + "mlp.up_proj", p + "mlp.down_proj");
    const bool mixtral = k_.type() == "mixtral";
    Row prob = linear(p + (mixtral ? "block_sparse_moe.gate" : "mlp.gate"), x);
    const double top = *std::max_element(prob.begin(), prob.end());
    double sum = 0;
    for (double& v : prob) sum += v = std::exp(v - top);
    for (double& v : prob) v /= sum;
    std::vector<size_t> order(prob.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prob[a] > prob[b]; });
    order.resize(static_cast<size_t>(k_.integer("num_experts_per_tok", 1)));
    double kept = 0;
    for (size_t e : order) kept += prob[e];
    if (!mixtral && !k_.flag("norm_topk_prob")) kept = 1.0;
    Row y(x.size(), 0.0);
    for (size_t e : order) {
      const std::string m =
          mixtral ? fmt::format("{}block_sparse_moe.experts.{}.", p, e) : fmt::format("{}mlp.experts.{}.", p, e);
      const Row o =
          mixtral ? gated(x, m + "w1", m + "w3", m + "w2") : gated(x, m + "gate_proj", m + "up_proj", m + "down_proj");
      for (size_t c = 0; c < y.size(); ++c) y[c] += prob[e] / kept * o[c];
    }
    return y;
  }

  void layer(Rows& x, int64_t i) const {
    const std::string p = fmt::format("model.layers.{}.", i);
    Rows normed;
    for (const Row& row : x) normed.push_back(norm(p + "input_layernorm.weight", row));
    const Rows mixed = attention(normed, i);
    for (size_t t = 0; t < x.size(); ++t) {
      const Row m = k_.gemma() ? norm(p + "post_attention_layernorm.weight", mixed[t]) : mixed[t];
      for (size_t c = 0; c < m.size(); ++c) x[t][c] += m[c];
      const Row y =
          ffn(norm(p + (k_.gemma() ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight"), x[t]), i);
      const Row f = k_.gemma() ? norm(p + "post_feedforward_layernorm.weight", y) : y;
      for (size_t c = 0; c < f.size(); ++c) x[t][c] += f[c];
    }
  }

  const Checkpoint& w_;
  Keys k_;
};

}  // namespace

Checkpoint random_checkpoint(const Json& config, uint64_t seed) {
  Checkpoint out{config, {}};
  Random random(seed);
  const Keys keys{out.config};
  for (const Spec& spec : tensor_list(keys)) {
    size_t n = 1;
    for (int64_t d : spec.shape) n *= static_cast<size_t>(d);
    std::vector<float> values(n);
    const double base = spec.norm && !keys.gemma() ? 1.0 : 0.0;
    const double spread = spec.norm                ? 0.1
                          : spec.shape.size() == 1 ? 0.2
                                                   : 1.0 / std::sqrt(static_cast<double>(spec.shape[1]));
    for (float& v : values) v = static_cast<float>(bf16(base + spread * random.normal()));
    out.tensors[spec.name] = {spec.shape, std::move(values)};
  }
  return out;
}

void write_hf(const Checkpoint& checkpoint, const std::string& directory) {
  write_file_atomic(path_join(directory, "config.json"), checkpoint.config.dump(2));
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, entry] : checkpoint.tensors)
    tensors.emplace_back(name, Tensor::from<float>(entry.second, entry.first));
  io::write_safetensors(path_join(directory, "model.safetensors"), tensors);
}

std::vector<std::vector<double>> forward(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens) {
  return Net(checkpoint).run(tokens);
}

}  // namespace fettle::models::ref
