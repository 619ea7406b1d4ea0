#include "eval/score.h"

#include <cmath>

namespace fettle::eval {
namespace {

// Rows per work item: enough to amortise the hand-out, few enough to balance two threads.
constexpr size_t kRowGrain = 4;

}  // namespace

RowStats row_stats(std::span<const float> logits) {
  FETTLE_CHECK(!logits.empty());
  RowStats s{.max = logits[0]};
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == INFINITY)
      fail(ErrorCode::kNumeric, "logit {} is {}: the model computed a non-finite value", i, logits[i]);
    if (logits[i] > s.max) {
      s.max = logits[i];
      s.top = static_cast<int32_t>(i);
    }
  }
  if (s.max == -INFINITY) fail(ErrorCode::kNumeric, "all {} logits are -inf", logits.size());
  double sum = 0;
  for (const float x : logits) sum += static_cast<double>(std::exp(x - s.max));
  s.log_sum_exp = std::log(sum);
  return s;
}

void negative_log_likelihoods(MatView<const float> logits, std::span<const int32_t> targets, ThreadPool& pool,
                              std::span<double> nll) {
  FETTLE_CHECK(logits.rows == targets.size() && nll.size() == targets.size());
  pool.parallel_chunks(logits.rows, kRowGrain, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const std::span<const float> row = logits.row_span(r);
      FETTLE_CHECK(targets[r] >= 0 && static_cast<size_t>(targets[r]) < row.size());
      const RowStats s = row_stats(row);
      nll[r] = static_cast<double>(s.max) + s.log_sum_exp - static_cast<double>(row[static_cast<size_t>(targets[r])]);
    }
  });
}

void compare_rows(MatView<const float> reference, MatView<const float> logits, std::span<const int32_t> targets,
                  ThreadPool& pool, std::span<PairScore> scores) {
  FETTLE_CHECK(reference.rows == logits.rows && reference.cols == logits.cols);
  FETTLE_CHECK(logits.rows == targets.size() && scores.size() == targets.size());
  pool.parallel_chunks(logits.rows, kRowGrain, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const std::span<const float> p = reference.row_span(r), q = logits.row_span(r);
      const auto target = static_cast<size_t>(targets[r]);
      FETTLE_CHECK(targets[r] >= 0 && target < q.size());
      const RowStats sp = row_stats(p), sq = row_stats(q);
      const double p_zero = static_cast<double>(sp.max) + sp.log_sum_exp;  // log p_i = p[i] - p_zero
      const double q_zero = static_cast<double>(sq.max) + sq.log_sum_exp;
      double kl = 0;
      for (size_t i = 0; i < p.size(); ++i) {
        const float centred = p[i] - sp.max;
        if (centred < -80.0f) continue;  // e^-80 of a nat: below F64 rounding of the sum
        const double log_p = static_cast<double>(p[i]) - p_zero, log_q = static_cast<double>(q[i]) - q_zero;
        kl += static_cast<double>(std::exp(centred)) * (log_p - log_q);
      }
      PairScore& s = scores[r];
      s.kl = kl * std::exp(-sp.log_sum_exp);
      s.reference_nll = p_zero - static_cast<double>(p[target]);
      s.nll = q_zero - static_cast<double>(q[target]);
      s.delta_p = std::exp(-s.nll) - std::exp(-s.reference_nll);
      s.same_top = sp.top == sq.top;
    }
  });
}

}  // namespace fettle::eval
