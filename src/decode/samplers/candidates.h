#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fettle::decoding {

struct Candidate {
  float logit;
  int32_t id;
};

// The one order used everywhere: logit descending, then id ascending.
inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Sums over a softmax with x_i = (logit_i - max) / temperature, natural logarithms.
struct SoftmaxStats {
  double max = 0;      // largest logit
  double z = 0;        // sum exp(x_i)
  double entropy = 0;  // ln z - sum(x_i exp(x_i)) / z
};

// The tokens still in play. Temperature is kept as a factor beside the logits instead of being multiplied into them, so
// that no precision is lost and a row can be scaled twice. Sorting is lazy: a vocabulary of 150,000 is never sorted
// whole unless a sampler needs it (tail-free does).
class Candidates {
 public:
  // Every token of `row` [V] whose logit is above -inf; the row must outlive the next reset. Temperature 1.
  void reset(std::span<float> row);

  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  const Candidate& operator[](size_t i) const { return items_[i]; }
  std::span<const Candidate> items() const { return items_; }

  // Makes the first min(n, size()) items the best ones, in order.
  void sort(size_t n);
  // Keeps the best n (at least 1).
  void keep(size_t n);
  // Keeps what `pred` accepts, in the present order.
  template <typename Pred>
  void keep_if(Pred pred) {
    size_t out = 0, sorted = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      if (!pred(items_[i])) continue;
      if (i < sorted_) ++sorted;
      items_[out++] = items_[i];
    }
    whole_ = whole_ && out == items_.size();
    items_.resize(out);
    sorted_ = sorted;
  }
  // Other tokens in any order; they must be a subset.
  void replace(std::vector<Candidate> items);

  double max_logit() const;
  // exp((logit - max) / temperature), with max from the caller, who computes it once.
  double weight(size_t i, double max) const;
  SoftmaxStats stats() const;            // over the tokens in play
  SoftmaxStats row_stats() const;        // over the whole row, whatever was removed since
  bool whole() const { return whole_; }  // nothing was removed since reset

  double inverse_temperature() const { return inverse_; }
  void divide_by(double temperature) { inverse_ *= 1.0 / temperature; }

  // Lets a logit processor change the row after tokens were removed or scaled: `edit` sees the scaled row, and the
  // tokens in play take their new logits from it.
  template <typename Edit>
  void edit_row(Edit edit) {
    fold_temperature();
    edit(row_);
    reload();
  }

 private:
  void fold_temperature();
  void reload();

  std::span<float> row_;
  std::vector<Candidate> items_;
  size_t sorted_ = 0;  // items_[0, sorted_) are the best ones, in order
  double inverse_ = 1;
  bool whole_ = true;
};

}  // namespace fettle::decoding
