#include "eval/compare.h"

#include <algorithm>
#include <cmath>

#include "compress/model_tensors.h"
#include "compress/weight_tools.h"
#include "io/model_files.h"
#include "models/weight_source.h"

namespace fettle::eval {
namespace {

using compress::ModelTensor;

std::unique_ptr<models::WeightSource> open_source(const std::string& model, ThreadPool& pool) {
  const io::ModelFiles files = io::resolve_model(model);
  return files.kind == io::ModelFiles::Kind::kGguf ? models::open_gguf_weights(files, pool)
                                                   : models::open_hf_weights(files, pool);
}

struct Sums {
  double error = 0, norm = 0, other = 0, max_abs = 0;
  void add(const Sums& s) {
    error += s.error;
    norm += s.norm;
    other += s.other;
    max_abs = std::max(max_abs, s.max_abs);
  }
  double relative() const { return norm > 0 ? error / norm : other > 0 ? 1.0 : 0.0; }
};

Sums difference(std::span<const float> a, std::span<const float> b, ThreadPool& pool) {
  FETTLE_CHECK_EQ(a.size(), b.size());
  constexpr size_t kGrain = size_t{1} << 16;
  std::vector<Sums> parts((a.size() + kGrain - 1) / kGrain);  // added in order: the same for any number of threads
  pool.parallel_chunks(a.size(), kGrain, [&](size_t begin, size_t end) {
    Sums& s = parts[begin / kGrain];
    for (size_t i = begin; i < end; ++i) {
      const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]), d = x - y;
      s.error += d * d;
      s.norm += x * x;
      s.other += y * y;
      s.max_abs = std::max(s.max_abs, std::abs(d));
    }
  });
  Sums total;
  for (const Sums& s : parts) total.add(s);
  return total;
}

// One side of the comparison, in Hugging Face conventions.
class Side {
 public:
  Side(const std::string& model, ThreadPool& pool) : source_(open_source(model, pool)), pool_(pool) {}

  const models::ModelConfig& config() const { return source_->config(); }
  bool has(const ModelTensor& t) const {
    if (t.kind == ModelTensor::Kind::kVector) return source_->has_tensor(t.name);
    return t.kind == ModelTensor::Kind::kExperts || source_->has(t.name);
  }

  std::vector<float> read(const ModelTensor& t, int64_t expert, std::string& format) {
    const std::vector<int64_t> order = row_order(t.name);
    if (t.kind == ModelTensor::Kind::kVector) {
      format = "f32";
      std::vector<float> v = source_->vector(t.name, t.rows);
      if (config().norm_plus_one && source_->norms_have_one_added() && t.name.ends_with("norm.weight"))
        for (float& x : v) x -= 1.0f;
      if (order.empty()) return v;
      std::vector<float> moved(v.size());
      for (size_t i = 0; i < order.size(); ++i) moved[i] = v[static_cast<size_t>(order[i])];
      return moved;
    }
    PackedWeight w = t.kind == ModelTensor::Kind::kExperts ? source_->expert(t.name, expert, t.part, t.rows, t.cols)
                                                           : source_->matrix(t.name, t.rows, t.cols);
    format = format_info(w.format).name;
    if (!order.empty()) w = compress::permute_rows(w, order);
    std::vector<float> values = compress::decode_parallel(w, pool_);
    source_->release(t.name);
    return values;
  }

 private:
  std::vector<int64_t> row_order(const std::string& name) const {
    if (!config().interleaved_rope) return {};
    if (name.find(".self_attn.q_proj") != std::string::npos)
      return compress::to_split_halves(config().num_attention_heads, config().head_dim);
    if (name.find(".self_attn.k_proj") != std::string::npos)
      return compress::to_split_halves(config().num_key_value_heads, config().head_dim);
    return {};
  }
  std::unique_ptr<models::WeightSource> source_;
  ThreadPool& pool_;
};

void require_same_shape(const models::ModelConfig& a, const models::ModelConfig& b) {
  const auto check = [](const char* key, int64_t x, int64_t y) {
    if (x != y) fail(ErrorCode::kInput, "the models differ in {}: {} and {}", key, x, y);
  };
  check("hidden_size", a.hidden_size, b.hidden_size);
  check("num_hidden_layers", a.num_hidden_layers, b.num_hidden_layers);
  check("num_attention_heads", a.num_attention_heads, b.num_attention_heads);
  check("num_key_value_heads", a.num_key_value_heads, b.num_key_value_heads);
  check("head_dim", a.head_dim, b.head_dim);
  check("intermediate_size", a.intermediate_size, b.intermediate_size);
  check("vocab_size", a.vocab_size, b.vocab_size);
  check("num_experts", a.num_experts, b.num_experts);
}

}  // namespace

Comparison compare_checkpoints(const std::string& a, const std::string& b, ThreadPool& pool,
                               const CancelToken* cancel) {
  Side left(a, pool), right(b, pool);
  require_same_shape(left.config(), right.config());
  Comparison result;
  Sums matrices;
  for (const ModelTensor& t : compress::model_tensors(left.config())) {
    if (!left.has(t) || !right.has(t)) continue;  // optional biases; a head that is tied on one side
    const bool experts = t.kind == ModelTensor::Kind::kExperts;
    for (int64_t j = 0; j < (experts ? left.config().num_experts : 1); ++j) {
      check_cancel(cancel);
      TensorDifference d;
      d.name = experts ? fmt::format("{}.{}.{}.weight", t.name, j, t.part)
                       : t.name + (t.kind == ModelTensor::Kind::kMatrix ? ".weight" : "");
      const Sums s = difference(left.read(t, j, d.format_a), right.read(t, j, d.format_b), pool);
      d.relative_error = s.relative();
      d.max_abs = s.max_abs;
      d.identical = s.error == 0;
      result.identical += d.identical ? 1 : 0;
      if (t.kind != ModelTensor::Kind::kVector) matrices.add(s);
      result.tensors.push_back(std::move(d));
    }
  }
  result.relative_error = matrices.relative();
  return result;
}

}  // namespace fettle::eval
