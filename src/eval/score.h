#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace fettle::eval {

// What a row of logits says, sums in F64.
struct RowStats {
  float max = 0;
  double log_sum_exp = 0;  // of logits - max
  int32_t top = 0;         // arg-max, lowest id on ties
};

// Throws kNumeric when a logit is NaN or +inf, naming its position.
RowStats row_stats(std::span<const float> logits);

// -log softmax(logits)[target], one per row. logits: [R, V], targets: [R] ids in [0, V), nll: [R] out.
void negative_log_likelihoods(MatView<const float> logits, std::span<const int32_t> targets, ThreadPool& pool,
                              std::span<double> nll);

// One scored position of a model beside its reference.
struct PairScore {
  double nll = 0, reference_nll = 0;  // nats
  double kl = 0;                      // sum p_ref (log p_ref - log p), nats, >= 0 up to rounding
  double delta_p = 0;                 // p(target) - p_ref(target)
  bool same_top = false;
};

// Compares logits [R, V] row by row with the reference's log-probabilities; scores: [R] out.
void compare_rows(MatView<const float> reference, MatView<const float> logits, std::span<const int32_t> targets,
                  ThreadPool& pool, std::span<PairScore> scores);

}  // namespace fettle::eval
