// Vectors of SINQ (tests/data/vectors/sinq/README.md): balancing, roundings, A-SINQ, Pre-SINQ, upstream's checkpoints.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <set>

#include "io/linear_loader.h"
#include "io/quant_config.h"
#include "io/safetensors.h"
#include "io/test_util.h"
#include "tensor/sinq/asinq.h"
#include "tensor/sinq/presinq.h"
#include "tensor/sinq/quantise.h"

namespace fettle {
namespace {

using io::SafetensorsFile;
namespace s = sinq;

void for_each_file(const std::string& name, const std::function<void(const SafetensorsFile&)>& check) {
  size_t found = 0;
  for (const std::string& dir : io::vector_dirs("sinq"))
    for (const std::string& file : list_directory(dir)) {
      if (!file.starts_with(name) || !file.ends_with(".safetensors")) continue;
      SCOPED_TRACE(path_join(dir, file));
      check(SafetensorsFile::open(path_join(dir, file)));
      ++found;
    }
  EXPECT_GT(found, 0u) << "no vectors named " << name << "*.safetensors";
}

bool has(const SafetensorsFile& f, const std::string& name) {
  const auto entries = f.entries();
  return std::any_of(entries.begin(), entries.end(), [&](const auto& e) { return e.name == name; });
}

struct Matrix {
  std::vector<float> values;
  size_t rows = 0, cols = 0;
  Matrix(const SafetensorsFile& f, const std::string& name) {
    const Tensor t = f.tensor(name);
    values = t.to_f32();
    cols = static_cast<size_t>(t.shape().back());
    rows = values.size() / cols;
  }
  MatView<const float> view() const { return {values.data(), rows, cols}; }
  MatView<float> mutable_view() { return {values.data(), rows, cols}; }
};

std::vector<float> floats(const SafetensorsFile& f, const std::string& name) { return f.tensor(name).to_f32(); }

void expect_relative(std::span<const float> got, std::span<const float> want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], tolerance * std::fabs(static_cast<double>(want[i])) + 1e-30) << what << ' ' << i;
}

// First dotted parts of the tensors that end with `suffix`.
std::vector<std::string> stems(const SafetensorsFile& f, const std::string& suffix) {
  std::vector<std::string> out;
  for (const auto& e : f.entries())
    if (e.name.ends_with(suffix)) out.push_back(e.name.substr(0, e.name.size() - suffix.size()));
  return out;
}

constexpr s::SinkhornOptions kUpstream{.order = 16, .robust = false};

TEST(SinqGolden, Sinkhorn) {
  size_t cases = 0;
  for_each_file("sinkhorn", [&](const SafetensorsFile& f) {
    for (const std::string& kind : stems(f, ".W")) {
      SCOPED_TRACE(kind);
      const Matrix w(f, kind + ".W");
      const double tolerance = kind == "tiny" ? 2e-3 : 1e-5;
      for (int order = 0; order <= 64; ++order) {
        const std::string at = fmt::format("{}.o{}.", kind, order);
        if (!has(f, at + "mu_col")) continue;
        const s::SinkhornFactors got = s::sinkhorn(w.view(), {.order = order, .robust = false});
        expect_relative(got.col, floats(f, at + "mu_col"), tolerance, "mu_col");
        expect_relative(got.row, floats(f, at + "mu_row"), tolerance, "mu_row");
        std::vector<float> scaled = w.values;
        for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = scaled[i] / got.col[i % w.cols] / got.row[i / w.cols];
        expect_relative(scaled, floats(f, at + "scaled"), 2 * tolerance, "scaled");
        ++cases;
      }
      const std::vector<float> best = floats(f, kind + ".best_imbalance");
      for (size_t order = 0; order < best.size(); ++order)
        EXPECT_NEAR(s::sinkhorn(w.view(), {.order = static_cast<int>(order), .robust = false}).imbalance, best[order],
                    (kind == "tiny" ? 2e-3 : 1e-4) * best[order])
            << order;
    }
  });
  EXPECT_GT(cases, 0u);
}

// Codes: at least 99.9 % equal, the others off by one.
void expect_codes(std::span<const uint8_t> got, const Tensor& want) {
  ASSERT_EQ(got.size(), static_cast<size_t>(want.numel()));
  size_t different = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const int d = static_cast<int>(got[i]) - static_cast<int>(want.data<uint8_t>()[i]);
    if (d == 0) continue;
    ++different;
    ASSERT_LE(std::abs(d), 1) << i;
  }
  EXPECT_LE(static_cast<double>(different), 1e-3 * static_cast<double>(got.size()) + 1) << "codes";
}

// Values within 1e-5 of their row's largest, but for weights whose code was a tie.
void expect_decoded(std::span<const float> got, const Matrix& want, double tolerance = 1e-5) {
  ASSERT_EQ(got.size(), want.values.size());
  size_t far = 0;
  for (size_t r = 0; r < want.rows; ++r) {
    double largest = 0;
    for (const float v : want.view().row_span(r)) largest = std::max(largest, std::fabs(static_cast<double>(v)));
    for (size_t k = 0; k < want.cols; ++k) {
      const double d = static_cast<double>(got[r * want.cols + k]) - static_cast<double>(want.view().row(r)[k]);
      far += std::fabs(d) > tolerance * largest ? 1 : 0;
    }
  }
  EXPECT_LE(static_cast<double>(far), 1e-3 * static_cast<double>(got.size()) + 1) << "decoded values";
}

// Zero points: whole numbers may differ where minimum / scale was a tie, others by rounding.
void expect_zeros(std::span<const float> got, std::span<const float> want, bool whole) {
  if (want.size() == 1 && got.size() > 1) {  // symmetric: one for all
    for (const float z : got) ASSERT_EQ(z, want[0]);
    return;
  }
  ASSERT_EQ(got.size(), want.size());
  size_t far = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double size = std::max(1.0, std::fabs(static_cast<double>(want[i])));
    far += std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])) > (whole ? 0 : 2e-5) * size ? 1 : 0;
  }
  EXPECT_LE(static_cast<double>(far), 1e-3 * static_cast<double>(got.size())) << "zero points";
}

double mean_square(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return sum / static_cast<double>(a.size());
}

s::Options options_of(const std::string& method, int bits, int64_t tile) {
  s::Options o;
  o.bits = bits;
  o.tile = tile;
  o.balance = method.starts_with("sinq");
  o.sinkhorn = kUpstream;
  if (method.ends_with("noz")) o.rounding = s::Rounding::kNoZero;
  if (method.ends_with("nf4")) o.rounding = s::Rounding::kNf4;
  if (method.ends_with("nf3")) o.rounding = s::Rounding::kNf3;
  if (method.ends_with("hqq")) o.rounding = s::Rounding::kHqq;
  return o;
}

TEST(SinqGolden, Strips) {
  size_t cases = 0;
  for_each_file("quant_1d", [&](const SafetensorsFile& f) {
    for (const std::string& stem : stems(f, ".s2")) {
      SCOPED_TRACE(stem);
      const size_t g = stem.rfind(".g"), b = stem.rfind(".b", g), dot = stem.find('.');
      const std::string kind = stem.substr(0, dot), method = stem.substr(dot + 1, b - dot - 1);
      const Matrix w(f, kind + ".W");
      const s::Options o = options_of(method, std::stoi(stem.substr(b + 2)), std::stoi(stem.substr(g + 2)));
      const s::Quantised q = s::quantise(w.view(), o, nullptr);
      const std::vector<float> decoded = s::dequantise(q);
      const double mse = mean_square(decoded, w.values), want = floats(f, stem + ".mse")[0];
      EXPECT_NEAR(mse, want, 0.01 * want) << "mse";
      ++cases;
      if (o.rounding == s::Rounding::kHqq) continue;
      const double tolerance = kind == "tiny" ? 2e-3 : 1e-5;
      expect_codes(q.codes, f.tensor(stem + ".q"));
      expect_relative(q.scale, floats(f, stem + ".s1"), 2 * tolerance, "s1");
      expect_relative(q.col, floats(f, stem + ".s2"), tolerance, "s2");
      const bool table = s::table_of(o.rounding) != nullptr;
      expect_zeros(q.zero, floats(f, stem + ".z"), !table);
      if (has(f, stem + ".dq")) expect_decoded(decoded, Matrix(f, stem + ".dq"), tolerance);
    }
  });
  EXPECT_GT(cases, 0u);
}

TEST(SinqGolden, SquareTiles) {
  for_each_file("quant_2d", [&](const SafetensorsFile& f) {
    const Matrix w(f, "W");
    for (const std::string& stem : stems(f, ".s2")) {
      SCOPED_TRACE(stem);
      const Tensor s1 = f.tensor(stem + ".s1");
      s::Options o = options_of("sinq", std::stoi(stem.substr(1)), s1.dim(2));
      o.square_tiles = true;
      const s::Quantised q = s::quantise(w.view(), o, nullptr);
      expect_codes(q.codes, f.tensor(stem + ".q"));
      const std::vector<float> got = s::dequantise(q);
      const std::vector<float> col = floats(f, stem + ".s2"), scale = floats(f, stem + ".s1");
      const auto n = static_cast<size_t>(s1.dim(2)), wide = static_cast<size_t>(s1.dim(1));
      for (size_t i = 0; i < scale.size(); ++i) {
        const size_t panel = i / (wide * n), tile = i / n % wide, at = i % n;
        ASSERT_NEAR(q.scale[(panel * n + at) * wide + tile], scale[i], 2e-5 * scale[i]);
        ASSERT_NEAR(q.col[panel * w.cols + tile * n + at], col[i], 1e-5 * col[i]);
      }
      EXPECT_NEAR(mean_square(got, w.values), floats(f, stem + ".mse")[0], 0.01 * floats(f, stem + ".mse")[0]);
      expect_decoded(got, Matrix(f, stem + ".dq"));
      std::vector<float> zeros(scale.size());
      for (size_t i = 0; i < scale.size(); ++i) zeros[i] = q.zero[(i / (wide * n) * n + i % n) * wide + i / n % wide];
      expect_zeros(zeros, floats(f, stem + ".z"), true);
    }
  });
}

// mean |X D^T| and its mean square, D = W' - W.
std::pair<double, double> output_errors(const Matrix& w, const Matrix& x, std::span<const float> decoded) {
  double absolute = 0, square = 0;
  for (size_t t = 0; t < x.rows; ++t)
    for (size_t n = 0; n < w.rows; ++n) {
      double sum = 0;
      for (size_t k = 0; k < w.cols; ++k)
        sum += static_cast<double>(x.view().row(t)[k]) *
               (static_cast<double>(decoded[n * w.cols + k]) - static_cast<double>(w.view().row(n)[k]));
      absolute += std::fabs(sum);
      square += sum * sum;
    }
  const auto count = static_cast<double>(x.rows * w.rows);
  return {absolute / count, square / count};
}

TEST(SinqGolden, ActivationAware) {
  size_t cases = 0;
  ThreadPool pool(1);
  for_each_file("asinq", [&](const SafetensorsFile& f) {
    for (const std::string& kind : stems(f, ".W")) {
      const Matrix w(f, kind + ".W"), acts(f, kind + ".acts");
      std::vector<float> mean(acts.cols);
      for (size_t k = 0; k < acts.cols; ++k) {
        double sum = 0;
        for (size_t t = 0; t < acts.rows; ++t) sum += std::fabs(static_cast<double>(acts.view().row(t)[k]));
        mean[k] = static_cast<float>(sum / static_cast<double>(acts.rows));
      }
      for (const std::string& stem : stems(f, ".awq_scale")) {
        if (!stem.starts_with(kind + ".")) continue;
        SCOPED_TRACE(stem);
        const size_t b = stem.rfind(".b");
        const std::string method = stem.substr(kind.size() + 1, b - kind.size() - 1);
        const bool ours = method.starts_with("eff");
        s::Options o = options_of(ours ? "sinq" : method.substr(0, 4), std::stoi(stem.substr(b + 2)), 64);
        o.balance = !method.starts_with("rtn");
        const s::AwqSearch search{ours ? s::AwqRule::kEffective : s::AwqRule::kUpstream,
                                  method.ends_with("_l1") ? s::OutputLoss::kAbsolute : s::OutputLoss::kSquared};
        const s::AwqResult got = s::asinq(w.view(), mean, acts.view(), o, search, pool);
        if (has(f, stem + ".losses"))
          expect_relative(std::vector<float>(got.losses.begin(), got.losses.end()), floats(f, stem + ".losses"), 1e-4,
                          "losses");
        if (has(f, stem + ".alpha")) {
          EXPECT_NEAR(got.alpha, floats(f, stem + ".alpha")[0], 1e-6);
        }
        expect_relative(got.awq_scale, floats(f, stem + ".awq_scale"), 1e-5, "awq_scale");
        const std::vector<float> decoded = s::dequantise(got.weight);
        const auto [l1, mse] = output_errors(w, acts, decoded);
        EXPECT_NEAR(l1, floats(f, stem + ".out_l1")[0], 1e-4 * l1);
        EXPECT_NEAR(mse, floats(f, stem + ".out_mse")[0], 2e-4 * mse);  // a square
        if (has(f, stem + ".z")) expect_zeros(got.weight.zero, floats(f, stem + ".z"), true);
        if (has(f, stem + ".dq")) expect_decoded(decoded, Matrix(f, stem + ".dq"));
        if (has(f, stem + ".q")) expect_codes(got.weight.codes, f.tensor(stem + ".q"));
        if (has(f, stem + ".s2")) expect_relative(got.weight.col, floats(f, stem + ".s2"), 2e-5, "s2");
        if (has(f, stem + ".s1")) expect_relative(got.weight.scale, floats(f, stem + ".s1"), 2e-5, "s1");
        ++cases;
      }
    }
  });
  EXPECT_GT(cases, 0u);
}

TEST(SinqGolden, UpstreamCheckpoints) {
  size_t leaves = 0;
  for (const std::string& dir : io::vector_dirs("sinq"))
    for (const std::string& name : list_directory(dir)) {
      const std::string at = path_join(dir, name), expected_file = at + "_expected.safetensors";
      if (!name.starts_with("checkpoint") || !is_directory(at)) continue;
      const SafetensorsFile expected = SafetensorsFile::open(expected_file);
      const std::string side = path_join(at, "model.safetensors.index.json.meta.json");
      io::QuantConfig config =
          io::QuantConfig::parse(parse_json(R"({"quantization_config":{"quant_method":"sinq","nbits":4}})", "c"), "c");
      config.read_sinq_meta(parse_json_file(side), side);
      const io::TensorSource source = io::TensorSource::open_directory(at);
      for (const std::string& module : stems(expected, ".dequant")) {
        SCOPED_TRACE(at + " " + module);
        const Tensor want = expected.tensor(module + ".dequant");
        const PackedWeight w = io::load_linear(source, config, module, want.dim(0), want.dim(1));
        const std::vector<float> got = decode(w), values = want.to_f32();
        const auto cols = static_cast<size_t>(want.dim(1));
        for (size_t i = 0; i < got.size(); ++i) {
          const size_t row = i / cols * cols;
          float largest = 0;
          for (size_t k = 0; k < cols; ++k) largest = std::max(largest, std::fabs(values[row + k]));
          ASSERT_NEAR(got[i], values[i], 1e-5 * largest) << i;
        }
        const double mse = mean_square(got, floats(expected, module + ".W"));
        EXPECT_NEAR(mse, floats(expected, module + ".mse")[0], 1e-4 * mse);
        const int bits = config.sinq_leaf(module).bits;
        EXPECT_EQ(w.format, bits == 2   ? Format::kInt2
                            : bits == 3 ? Format::kInt3
                            : bits == 4 ? Format::kInt4
                                        : Format::kInt8);
        ++leaves;
      }
    }
  EXPECT_GT(leaves, 0u);
}

std::vector<double> product(const Matrix& w, const std::vector<double>& x) {
  std::vector<double> y(w.rows, 0.0);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) y[r] += static_cast<double>(w.view().row(r)[c]) * x[c];
  return y;
}

std::vector<double> normed(std::span<const float> x, const Matrix& weight) {
  double square = 0;
  for (const float v : x) square += static_cast<double>(v) * static_cast<double>(v);
  const double scale = 1 / std::sqrt(square / static_cast<double>(x.size()) + 1e-6);
  std::vector<double> out(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = static_cast<double>(x[i]) * scale * static_cast<double>(weight.values[i]);
  return out;
}

// The folded block computes what `out` says the original did: q, k, v of one norm, the gated FFN of the other.
void expect_block_output(const SafetensorsFile& f, const std::vector<const Matrix*>& qkv, const Matrix& gate,
                         const Matrix& up, const Matrix& down, const Matrix& n1, const Matrix& n2) {
  const Matrix x(f, "x"), out(f, "out");
  double largest = 0;
  for (const float v : out.values) largest = std::max(largest, std::fabs(static_cast<double>(v)));
  for (size_t t = 0; t < x.rows; ++t) {
    std::vector<double> got;
    for (const Matrix* m : qkv)
      for (const double v : product(*m, normed(x.view().row_span(t), n1))) got.push_back(v);
    const std::vector<double> in = normed(x.view().row_span(t), n2), u = product(up, in);
    std::vector<double> h = product(gate, in);
    for (size_t i = 0; i < h.size(); ++i) h[i] = h[i] / (1 + std::exp(-h[i])) * u[i];
    for (const double v : product(down, h)) got.push_back(v);
    ASSERT_EQ(got.size(), out.cols);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], out.view().row(t)[i], 1e-5 * largest) << t << ' ' << i;
  }
}

TEST(SinqGolden, Folding) {
  for_each_file("presinq", [&](const SafetensorsFile& f) {
    const auto before = [&](const char* name) { return Matrix(f, std::string("before.") + name); };
    Matrix q = before("q"), k = before("k"), v = before("v"), gate = before("gate"), up = before("up"),
           down = before("down"), n1 = before("n1"), n2 = before("n2");
    s::FoldBlock block;
    block.attention = {n1.values, {q.mutable_view(), k.mutable_view(), v.mutable_view()}, 3};
    block.ffn = {n2.values, {gate.mutable_view(), up.mutable_view()}, 2};
    block.experts = {{up.mutable_view(), down.mutable_view(), {}}};
    for (int sweep = 0; has(f, fmt::format("r{}.t_qkv", sweep)); ++sweep) {
      const std::vector<float> n1_old = n1.values, n2_old = n2.values, down_old = down.values;
      s::fold_block(block, {.tile = 64, .rounds = 8, .repeats = 1}, nullptr);
      const auto expect_factors = [&](const char* name, const std::vector<float>& over,
                                      const std::vector<float>& under) {
        const std::vector<float> t = floats(f, fmt::format("r{}.t_{}", sweep, name));
        for (size_t i = 0; i < t.size(); ++i) ASSERT_NEAR(over[i] / under[i], t[i], 1e-5 * t[i]) << name << " " << i;
      };
      expect_factors("qkv", n1.values, n1_old);
      expect_factors("gu", n2.values, n2_old);
      expect_factors("down", down_old, down.values);
    }
    const std::pair<const char*, const Matrix*> parts[] = {{"q", &q},   {"k", &k},       {"v", &v},   {"gate", &gate},
                                                           {"up", &up}, {"down", &down}, {"n1", &n1}, {"n2", &n2}};
    for (const auto& [name, m] : parts) expect_relative(m->values, floats(f, std::string("after.") + name), 3e-5, name);
    expect_block_output(f, {&q, &k, &v}, gate, up, down, n1, n2);
  });
}

}  // namespace
}  // namespace fettle
