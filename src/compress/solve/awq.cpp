#include "compress/solve/awq.h"

#include <algorithm>
#include <cmath>

#include "compress/solve/blas.h"
#include "compress/solve/group_fit.h"
#include "tensor/formats/encode_common.h"

namespace fettle::compress {
namespace {

constexpr double kSmallest = 1e-4;
constexpr size_t kClipTokens = 512;
constexpr int kClipGrid = 20, kClipSteps = 10;

AwqCandidate candidate(std::span<const double> x, std::span<const double> w, double r, bool with_weights) {
  std::vector<double> s(x.size());
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (size_t k = 0; k < s.size(); ++k) {
    s[k] = std::pow(x[k], r);
    if (with_weights) s[k] /= std::pow(w[k], 1 - r) + kSmallest;
    s[k] = std::max(s[k], kSmallest);
    low = std::min(low, s[k]);
    high = std::max(high, s[k]);
  }
  const double norm = std::sqrt(low * high);
  AwqCandidate out{.ratio = r, .identity = false, .scales = {}};
  for (const double v : s) {
    const double n = v / norm;
    out.scales.push_back(std::isfinite(n) && n > 0 ? n : 1.0);
  }
  return out;
}

void check_width(size_t found, size_t expected) {
  if (found != expected) fail(ErrorCode::kInput, "awq: expected {} columns, found {}", expected, found);
}

}  // namespace

std::vector<double> channel_mean_magnitude(MatView<const float> x) {
  std::vector<double> mean(x.cols, 0.0);
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t c = 0; c < x.cols; ++c) mean[c] += std::fabs(static_cast<double>(x.row(r)[c]));
  for (double& m : mean) m /= static_cast<double>(std::max<size_t>(x.rows, 1));
  return mean;
}

std::vector<double> relative_weight_magnitude(std::span<const MatView<const float>> weights, int64_t group) {
  if (weights.empty()) return {};
  const size_t k = weights[0].cols, g = static_cast<size_t>(group);
  if (group < 1 || k % g != 0) fail(ErrorCode::kInput, "awq: group size {} does not divide {} columns", group, k);
  std::vector<double> mean(k, 0.0);
  size_t rows = 0;
  for (const auto& w : weights) {
    check_width(w.cols, k);
    std::vector<double> sum(k, 0.0);
    for (size_t r = 0; r < w.rows; ++r)
      for (size_t b = 0; b < k; b += g) {
        double top = 0;
        for (size_t c = b; c < b + g; ++c) top = std::max(top, std::fabs(static_cast<double>(w.row(r)[c])));
        for (size_t c = b; c < b + g; ++c) sum[c] += std::fabs(static_cast<double>(w.row(r)[c])) / (top + 1e-6);
      }
    for (size_t c = 0; c < k; ++c) mean[c] += sum[c];
    rows += w.rows;
  }
  for (double& m : mean) m /= static_cast<double>(rows);
  return mean;
}

std::vector<AwqCandidate> awq_candidates(std::span<const double> x, std::span<const double> w, AwqRule rule) {
  check_width(w.size(), x.size());
  std::vector<AwqCandidate> out;
  if (rule == AwqRule::kCompressor) {
    out.push_back({.ratio = 0, .identity = true, .scales = std::vector<double>(x.size(), 1.0)});
    for (int i = 0; i < 19; ++i) out.push_back(candidate(x, w, i / 18.0, true));
    return out;
  }
  for (int i = 0; i < 20; ++i) out.push_back(candidate(x, w, i / 20.0, rule == AwqRule::kDuo));
  return out;
}

AwqResult awq_search(const std::vector<AwqCandidate>& candidates,
                     const std::function<double(std::span<const double>)>& loss) {
  AwqResult out;
  for (size_t i = 0; i < candidates.size(); ++i) {
    out.losses.push_back(loss(candidates[i].scales));
    if (i == 0 || out.losses[i] < out.losses[out.best]) out.best = i;
  }
  if (candidates.empty()) return out;
  const std::vector<double>& best = candidates[out.best].scales;
  out.scales.assign(best.begin(), best.end());
  out.ratio = candidates[out.best].ratio;
  return out;
}

namespace {

// Formats with one float scale per group.
void round_groups(const FormatInfo& info, const CodeSpace& space, const FormatOptions& options, MatView<double> w,
                  ThreadPool& pool) {
  const auto g =
      static_cast<size_t>(formats::resolve_group(info.name, options.group_size, info.default_group, w.cols, true));
  pool.parallel_for(w.rows, [&](size_t r) {
    for (size_t b = 0; b < w.cols; b += g) {
      const std::span<double> x(w.row(r) + b, std::min(g, w.cols - b));
      const ExactFit fit = exact_fit(space, options, x);
      for (double& v : x) v = fit.round(space, v);
    }
  });
}

// Formats whose scales come from a small set (NVFP4, MX): the grid that `encode` makes.
void round_on_grid(Format format, const FormatOptions& options, int bits, MatView<double> w, ThreadPool& pool) {
  std::vector<float> x(w.rows * w.cols);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) x[r * w.cols + c] = static_cast<float>(w.row(r)[c]);
  const MatView<const float> view(x.data(), w.rows, w.cols);
  const Grid grid = make_grid(view, format, options, GridSearch::kAbsMax, {}, pool, bits);
  std::vector<uint8_t> codes(x.size());
  round_to_grid(grid, view, codes, pool);
  for (size_t i = 0; i < codes.size(); ++i)
    w.row(i / w.cols)[i % w.cols] = static_cast<double>(
        grid_value(grid, static_cast<int64_t>(i / w.cols), static_cast<int64_t>(i % w.cols), codes[i]));
}

}  // namespace

void awq_fake_quantise(MatView<const float> w, std::span<const double> scales, Format format,
                       const FormatOptions& options, int bits, MatView<double> out, ThreadPool& pool) {
  check_width(scales.size(), w.cols);
  const CodeSpace space = code_space(format, options, bits);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) out.row(r)[c] = static_cast<double>(w.row(r)[c]) * scales[c];
  if (space.kind == CodeSpace::Kind::kInteger) {
    round_groups(format_info(format), space, options, out, pool);
  } else {
    round_on_grid(format, options, bits, out, pool);
  }
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) out.row(r)[c] /= scales[c];
}

double awq_output_loss(MatView<const float> x, std::span<const MatView<const float>> weights,
                       std::span<const double> scales, Format format, const FormatOptions& options, int bits,
                       ThreadPool& pool) {
  double total = 0;
  size_t outputs = 0;
  for (const auto& w : weights) {
    check_width(w.cols, x.cols);
    std::vector<double> d(w.rows * w.cols);
    awq_fake_quantise(w, scales, format, options, bits, {d.data(), w.rows, w.cols}, pool);
    for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<double>(w.row(i / w.cols)[i % w.cols]) - d[i];
    std::vector<double> part((x.rows + 63) / 64, 0.0);
    pool.parallel_chunks(x.rows, 64, [&](size_t begin, size_t end) {
      std::vector<double> tokens((end - begin) * x.cols), y((end - begin) * w.rows);
      for (size_t t = begin; t < end; ++t) std::copy_n(x.row(t), x.cols, tokens.data() + (t - begin) * x.cols);
      blas::gemm(blas::Op::kNone, blas::Op::kTranspose, end - begin, w.rows, w.cols, 1.0, tokens.data(), x.cols,
                 d.data(), w.cols, 0.0, y.data(), w.rows);
      for (const double v : y) part[begin / 64] += v * v;
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
    std::vector<double> clipped(g), d(g);
    for (size_t b = 0; b < groups; ++b) {
      const float* row = w.row(r) + b * g;
      double top = 0;
      for (size_t i = 0; i < g; ++i) top = std::max(top, std::fabs(static_cast<double>(row[i])));
      double best = std::numeric_limits<double>::infinity();
      for (int i = 0; i < kClipSteps; ++i) {
        const double limit = top * (1.0 - static_cast<double>(i) / kClipGrid);
        for (size_t j = 0; j < g; ++j) clipped[j] = std::clamp(static_cast<double>(row[j]), -limit, limit);
        const ExactFit fit = exact_fit(space, options, clipped);
        for (size_t j = 0; j < g; ++j) d[j] = static_cast<double>(row[j]) - fit.round(space, clipped[j]);
        double e = 0;
        size_t tokens = 0;
        for (size_t t = 0; t < x.rows; t += step, ++tokens) {
          double dot = 0;
          for (size_t j = 0; j < g; ++j) dot += d[j] * static_cast<double>(x.row(t)[b * g + j]);
          e += dot * dot;
        }
        e /= static_cast<double>(std::max<size_t>(tokens, 1));
        if (e < best) {
          best = e;
          out.max[r * groups + b] = static_cast<float>(limit);
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
