#include "compress/solve/awq.h"

#include <algorithm>
#include <cmath>

#include "compress/solve/blas.h"
#include "compress/solve/group_fit.h"

namespace fettle::compress {
namespace {

constexpr double kSmallest = 1e-4;
constexpr size_t kClipTokens = 512;
constexpr int kClipGrid = 20, kClipSteps = 10;

AwqCandidate candidate(std::span<const float> x, std::span<const float> w, double r, bool with_weights) {
  std::vector<double> s(x.size());
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (size_t k = 0; k < s.size(); ++k) {
    s[k] = std::pow(static_cast<double>(x[k]), r);
    if (with_weights) s[k] /= std::pow(static_cast<double>(w[k]), 1 - r) + kSmallest;
    s[k] = std::max(s[k], kSmallest);
    low = std::min(low, s[k]);
    high = std::max(high, s[k]);
  }
  const double norm = std::sqrt(low * high);
  AwqCandidate out{.ratio = r, .identity = false, .scales = {}};
  for (const double v : s) {
    const double n = v / norm;
    out.scales.push_back(std::isfinite(n) && n > 0 ? static_cast<float>(n) : 1.0f);
  }
  return out;
}

void check_width(size_t found, size_t expected) {
  if (found != expected) fail(ErrorCode::kInput, "awq: expected {} columns, found {}", expected, found);
}

}  // namespace

std::vector<float> channel_mean_magnitude(MatView<const float> x) {
  std::vector<double> sum(x.cols, 0.0);
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t c = 0; c < x.cols; ++c) sum[c] += std::fabs(static_cast<double>(x.row(r)[c]));
  std::vector<float> out(x.cols);
  for (size_t c = 0; c < x.cols; ++c)
    out[c] = static_cast<float>(sum[c] / static_cast<double>(std::max<size_t>(x.rows, 1)));
  return out;
}

std::vector<float> relative_weight_magnitude(std::span<const MatView<const float>> weights, int64_t group) {
  if (weights.empty()) return {};
  const size_t k = weights[0].cols, g = static_cast<size_t>(group);
  if (group < 1 || k % g != 0) fail(ErrorCode::kInput, "awq: group size {} does not divide {} columns", group, k);
  std::vector<double> sum(k, 0.0);
  size_t rows = 0;
  for (const auto& w : weights) {
    check_width(w.cols, k);
    for (size_t r = 0; r < w.rows; ++r)
      for (size_t b = 0; b < k; b += g) {
        double top = 0;
        for (size_t c = b; c < b + g; ++c) top = std::max(top, std::fabs(static_cast<double>(w.row(r)[c])));
        for (size_t c = b; c < b + g; ++c) sum[c] += std::fabs(static_cast<double>(w.row(r)[c])) / (top + 1e-6);
      }
    rows += w.rows;
  }
  std::vector<float> out(k);
  for (size_t c = 0; c < k; ++c) out[c] = static_cast<float>(sum[c] / static_cast<double>(rows));
  return out;
}

std::vector<AwqCandidate> awq_candidates(std::span<const float> x, std::span<const float> w, AwqRule rule) {
  check_width(w.size(), x.size());
  std::vector<AwqCandidate> out;
  if (rule == AwqRule::kCompressor) {
    out.push_back({.ratio = 0, .identity = true, .scales = std::vector<float>(x.size(), 1.0f)});
    for (int i = 0; i < 19; ++i) out.push_back(candidate(x, w, i / 18.0, true));
    return out;
  }
  for (int i = 0; i < 20; ++i) out.push_back(candidate(x, w, i / 20.0, rule == AwqRule::kDuo));
  return out;
}

AwqResult awq_search(const std::vector<AwqCandidate>& candidates,
                     const std::function<double(std::span<const float>)>& loss) {
  AwqResult out;
  for (size_t i = 0; i < candidates.size(); ++i) {
    out.losses.push_back(loss(candidates[i].scales));
    if (i == 0 || out.losses[i] < out.losses[out.best]) out.best = i;
  }
  if (candidates.empty()) return out;
  out.scales = candidates[out.best].scales;
  out.ratio = candidates[out.best].ratio;
  return out;
}

void awq_fake_quantise(MatView<const float> w, std::span<const float> scales, Format format,
                       const FormatOptions& options, int bits, MatView<float> out, ThreadPool& pool) {
  check_width(scales.size(), w.cols);
  std::vector<float> scaled(w.rows * w.cols);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) scaled[r * w.cols + c] = w.row(r)[c] * scales[c];
  const MatView<const float> view(scaled.data(), w.rows, w.cols);
  const Grid grid = make_grid(view, format, options, GridSearch::kAbsMax, {}, pool, bits);
  std::vector<uint8_t> codes(scaled.size());
  round_to_grid(grid, view, codes, pool);
  pool.parallel_for(w.rows, [&](size_t r) {
    grid_row(grid, static_cast<int64_t>(r), std::span(codes).subspan(r * w.cols, w.cols), out.row_span(r));
    for (size_t c = 0; c < w.cols; ++c) out.row(r)[c] /= scales[c];
  });
}

double awq_output_loss(MatView<const float> x, std::span<const MatView<const float>> weights,
                       std::span<const float> scales, Format format, const FormatOptions& options, int bits,
                       ThreadPool& pool) {
  double total = 0;
  size_t outputs = 0;
  for (const auto& w : weights) {
    check_width(w.cols, x.cols);
    std::vector<float> d(w.rows * w.cols);
    awq_fake_quantise(w, scales, format, options, bits, {d.data(), w.rows, w.cols}, pool);
    for (size_t i = 0; i < d.size(); ++i) d[i] = w.row(i / w.cols)[i % w.cols] - d[i];
    std::vector<double> part((x.rows + 63) / 64, 0.0);
    pool.parallel_chunks(x.rows, 64, [&](size_t begin, size_t end) {
      std::vector<float> y((end - begin) * w.rows);
      blas::gemm(blas::Op::kNone, blas::Op::kTranspose, end - begin, w.rows, w.cols, 1.0f, x.row(begin), x.stride,
                 d.data(), w.cols, 0.0f, y.data(), w.rows);
      for (const float v : y) part[begin / 64] += static_cast<double>(v) * static_cast<double>(v);
    });
    for (const double p : part) total += p;
    outputs += x.rows * w.rows;
  }
  return outputs > 0 ? total / static_cast<double>(outputs) : 0.0;
}

AwqClip awq_clip(MatView<const float> w, MatView<const float> x, Format format, const FormatOptions& options, int bits,
                 ThreadPool& pool) {
  check_width(x.cols, w.cols);
  const CodeSpace space = code_space(format, options, bits);
  if (space.kind != CodeSpace::Kind::kInteger) fail(ErrorCode::kUsage, "clip search: expected an integer format");
  const int64_t group = options.group_size > 0 ? options.group_size : static_cast<int64_t>(w.cols);
  if (w.cols % static_cast<size_t>(group) != 0)
    fail(ErrorCode::kInput, "clip search: group size {} does not divide {} columns", group, w.cols);
  const auto g = static_cast<size_t>(group), groups = w.cols / g;
  const size_t step = std::max<size_t>(1, x.rows / kClipTokens);
  AwqClip out{.max = std::vector<float>(w.rows * groups), .error = std::vector<float>(w.rows * groups)};
  pool.parallel_for(w.rows, [&](size_t r) {
    std::vector<float> clipped(g), d(g);
    for (size_t b = 0; b < groups; ++b) {
      const float* row = w.row(r) + b * g;
      float top = 0;
      for (size_t i = 0; i < g; ++i) top = std::max(top, std::fabs(row[i]));
      double best = std::numeric_limits<double>::infinity();
      for (int i = 0; i < kClipSteps; ++i) {
        const auto limit = static_cast<float>(top * (1.0 - static_cast<double>(i) / kClipGrid));
        for (size_t j = 0; j < g; ++j) clipped[j] = std::clamp(row[j], -limit, limit);
        const GroupFit fit = fit_float_scale(space, options, GridSearch::kAbsMax, clipped, {});
        for (size_t j = 0; j < g; ++j) {
          const auto z = static_cast<float>(fit.zero);
          d[j] = row[j] - space.value(space.encode(clipped[j] / fit.scale, z), z) * fit.scale;
        }
        double e = 0;
        size_t tokens = 0;
        for (size_t t = 0; t < x.rows; t += step, ++tokens) {
          double dot = 0;
          for (size_t j = 0; j < g; ++j) dot += static_cast<double>(d[j]) * static_cast<double>(x.row(t)[b * g + j]);
          e += dot * dot;
        }
        e /= static_cast<double>(std::max<size_t>(tokens, 1));
        if (e < best) {
          best = e;
          out.max[r * groups + b] = limit;
          out.error[r * groups + b] = static_cast<float>(e);
        }
      }
    }
  });
  return out;
}

void apply_clip(MatView<float> w, const AwqClip& clip) {
  const size_t groups = clip.max.size() / w.rows, g = w.cols / groups;
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) {
      const float limit = clip.max[r * groups + c / g];
      w.row(r)[c] = std::clamp(w.row(r)[c], -limit, limit);
    }
}

}  // namespace fettle::compress
