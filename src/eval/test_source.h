#pragma once

#include <cmath>
#include <vector>

#include "eval/logit_source.h"
#include "eval/text_input.h"

namespace fettle::eval::testing {

// A model of which every number is known: the logits after reading token t at position p are base(t, p, v).
class TableSource : public LogitSource {
 public:
  TableSource(size_t vocab, float sharpness) : vocab_(vocab), sharpness_(sharpness) {}
  size_t vocab_size() const override { return vocab_; }
  void reset() override { read_.clear(); }
  void skip(std::span<const int32_t> tokens) override { read_.insert(read_.end(), tokens.begin(), tokens.end()); }
  MatView<const float> feed(std::span<const int32_t> tokens) override {
    logits_.clear();
    for (const int32_t t : tokens) {
      for (size_t v = 0; v < vocab_; ++v) logits_.push_back(logit(t, read_.size(), v));
      read_.push_back(t);
    }
    return {logits_.data(), tokens.size(), vocab_};
  }
  float logit(int32_t token, size_t position, size_t v) const {
    return sharpness_ * static_cast<float>(
                            std::sin(0.7 * static_cast<double>(v) + 1.3 * token + 0.1 * static_cast<double>(position)));
  }
  double nll(int32_t token, size_t position, int32_t target) const {
    double sum = 0;
    for (size_t v = 0; v < vocab_; ++v) sum += std::exp(static_cast<double>(logit(token, position, v)));
    return std::log(sum) - static_cast<double>(logit(token, position, static_cast<size_t>(target)));
  }
  const std::vector<int32_t>& read() const { return read_; }

 private:
  size_t vocab_;
  float sharpness_;
  std::vector<int32_t> read_;
  std::vector<float> logits_;
};

inline EvalText numbered_text(size_t n, size_t vocab) {
  EvalText text{.name = "numbers", .bytes = 3 * n, .words = n / 2};
  for (size_t i = 0; i < n; ++i) text.tokens.push_back(static_cast<int32_t>((i * 7 + i / 5) % vocab));
  return text;
}

}  // namespace fettle::eval::testing
