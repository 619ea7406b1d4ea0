#include "compress/method.h"

#include <vector>

namespace fettle::compress {

double relative_error(MatView<const float> weight, const PackedWeight& quantised, ThreadPool& pool) {
  FETTLE_CHECK_EQ(static_cast<int64_t>(weight.rows), quantised.rows);
  FETTLE_CHECK_EQ(static_cast<int64_t>(weight.cols), quantised.cols);
  struct Sums {
    double error = 0, norm = 0;
  };
  std::vector<Sums> rows(weight.rows);  // added in row order below, so that the result does not depend on threads
  pool.parallel_chunks(weight.rows, 16, [&](size_t begin, size_t end) {
    std::vector<float> row(weight.cols);
    for (size_t r = begin; r < end; ++r) {
      decode_row(quantised, static_cast<int64_t>(r), row);
      for (size_t c = 0; c < row.size(); ++c) {
        const double w = static_cast<double>(weight.row(r)[c]), d = w - static_cast<double>(row[c]);
        rows[r].error += d * d;
        rows[r].norm += w * w;
      }
    }
  });
  Sums total;
  for (const Sums& s : rows) {
    total.error += s.error;
    total.norm += s.norm;
  }
  return total.norm > 0 ? total.error / total.norm : total.error;
}

}  // namespace fettle::compress
