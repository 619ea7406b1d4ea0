#pragma once

#include <cstddef>
#include <span>

namespace fettle::eval {

// A mean with the uncertainty of that mean.
struct Estimate {
  double value = 0;
  double error = 0;  // standard error; 0 when fewer than two samples
};

// Mean and variance of a stream of numbers in one pass (Welford), so that millions of log-probabilities lose nothing to
// cancellation.
class RunningStat {
 public:
  void add(double x);
  size_t count() const { return count_; }
  double mean() const { return mean_; }
  double variance() const;        // population: divided by n
  double sample_stddev() const;   // divided by n - 1; 0 for fewer than two samples
  double standard_error() const;  // sqrt(variance / (n - 1)), the error llama.cpp prints
  Estimate estimate() const { return {mean(), standard_error()}; }

 private:
  size_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

// Value below which `fraction` of the samples lie, linear between neighbours (index fraction * (n - 1)). `sorted` is
// ascending; 0 for an empty span.
double percentile(std::span<const float> sorted, double fraction);

// Share of `hits` among `count` with the standard error of a proportion, sqrt(p (1 - p) / (n - 1)).
Estimate proportion(size_t hits, size_t count);

}  // namespace fettle::eval
