#include "decode/samplers/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "decode/samplers/softmax_sums.h"

namespace fettle::decoding {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();
constexpr size_t kFirstSort = 128;

SoftmaxStats finish(double max, const SoftmaxSums& sums) { return {max, sums.z, std::log(sums.z) - sums.xz / sums.z}; }

}  // namespace

void Candidates::reset(std::span<float> row) {
  row_ = row;
  inverse_ = 1;
  sorted_ = 0;
  whole_ = true;
  items_.resize(row.size());
  size_t n = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    items_[n] = {row[i], static_cast<int32_t>(i)};
    n += row[i] != kRemoved;
  }
  items_.resize(n);
}

void Candidates::sort(size_t n) {
  n = std::min(n, items_.size());
  if (n <= sorted_) return;
  const size_t target = std::min(items_.size(), std::max({n, kFirstSort, 4 * sorted_}));
  const auto begin = items_.begin() + static_cast<ptrdiff_t>(sorted_);
  const auto middle = items_.begin() + static_cast<ptrdiff_t>(target);
  if (target == items_.size()) {
    std::sort(begin, middle, better);
  } else if (target - sorted_ <= 4 * kFirstSort) {  // a small heap rarely changes: one comparison for most items
    std::partial_sort(begin, middle, items_.end(), better);
  } else {
    std::nth_element(begin, middle, items_.end(), better);
    std::sort(begin, middle, better);
  }
  sorted_ = target;
}

void Candidates::keep(size_t n) {
  n = std::clamp<size_t>(n, 1, std::max<size_t>(items_.size(), 1));
  if (n >= items_.size()) return;
  sort(n);
  items_.resize(n);
  sorted_ = n;
  whole_ = false;
}

void Candidates::replace(std::vector<Candidate> items) {
  whole_ = whole_ && items.size() == items_.size();
  items_ = std::move(items);
  sorted_ = 0;
}

double Candidates::max_logit() const {
  if (sorted_ > 0) return items_[0].logit;
  float max = kRemoved;
  for (const Candidate& c : items_) max = std::max(max, c.logit);
  return max;
}

double Candidates::weight(size_t i, double max) const {
  return std::exp((static_cast<double>(items_[i].logit) - max) * inverse_);
}

SoftmaxStats Candidates::stats() const {
  const double max = max_logit();
  return finish(max, softmax_sums(items_.size(), max, inverse_, [this](size_t i) { return items_[i].logit; }));
}

SoftmaxStats Candidates::row_stats() const {
  if (whole_) return stats();
  float max = kRemoved;
  for (float x : row_) max = std::max(max, x);
  return finish(max, softmax_sums(row_.size(), max, inverse_, [this](size_t i) { return row_[i]; }));
}

void Candidates::fold_temperature() {
  if (inverse_ == 1) return;
  for (float& x : row_) x = static_cast<float>(x * inverse_);
  inverse_ = 1;
}

void Candidates::reload() {
  for (Candidate& c : items_) c.logit = row_[static_cast<size_t>(c.id)];
  sorted_ = 0;
  keep_if([](const Candidate& c) { return c.logit != kRemoved; });
}

}  // namespace fettle::decoding
