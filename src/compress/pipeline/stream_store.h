#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace fettle::compress {

// Activations of all calibration samples, sample i as [rows[i], width] F32. In memory, or in an unnamed file of
// `spill_dir` that is mapped: then memory holds what is being worked on and the disk the rest. Contents start
// undefined. One thread at a time.
class StreamStore {
 public:
  // spill_dir "" = memory. Throws kResource when memory or disk does not suffice.
  StreamStore(const std::vector<size_t>& rows, size_t width, const std::string& spill_dir);
  ~StreamStore();
  StreamStore(StreamStore&&) noexcept;
  StreamStore& operator=(StreamStore&&) noexcept;

  MatView<float> sample(size_t i) const;
  // The caller is through with sample i for now: its pages may leave memory. Contents stay.
  void done(size_t i) const;
  size_t samples() const { return offsets_.size() - 1; }
  size_t bytes() const { return offsets_.back() * width_ * sizeof(float); }

 private:
  struct Mapping;
  std::vector<size_t> offsets_;  // first row of each sample, then the end
  size_t width_ = 0;
  std::unique_ptr<Mapping> mapping_;
};

}  // namespace fettle::compress
