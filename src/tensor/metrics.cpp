#include "tensor/metrics.h"

#include <cmath>
#include <limits>

#include "tensor/formats/encode_common.h"

namespace fettle {
namespace {

struct Sums {
  size_t count = 0, non_finite = 0;
  double rr = 0, vv = 0, rv = 0, dd = 0, max_abs = 0;

  void add_row(std::span<const float> reference, std::span<const float> value) {
    count += reference.size();
    for (size_t i = 0; i < reference.size(); ++i) {
      const double r = reference[i], v = value[i], d = r - v;
      if (!std::isfinite(v)) {
        ++non_finite;
        continue;
      }
      rr += r * r;
      vv += v * v;
      rv += r * v;
      dd += d * d;
      max_abs = std::max(max_abs, std::fabs(d));
    }
  }
  void add(const Sums& o) {
    count += o.count;
    non_finite += o.non_finite;
    rr += o.rr;
    vv += o.vv;
    rv += o.rv;
    dd += o.dd;
    max_abs = std::max(max_abs, o.max_abs);
  }
  ErrorStats stats() const {
    ErrorStats s;
    s.count = count;
    s.non_finite = non_finite;
    s.max_abs = max_abs;
    s.squared_error = dd;
    s.squared_reference = rr;
    s.relative_squared_error = dd == 0 ? 0 : rr == 0 ? std::numeric_limits<double>::infinity() : dd / rr;
    if (rr == 0 || vv == 0) {
      s.cosine = rr == vv ? 1 : 0;
    } else {
      s.cosine = rv / (std::sqrt(rr) * std::sqrt(vv));
    }
    return s;
  }
};

}  // namespace

double ErrorStats::rms() const {
  const size_t n = count - non_finite;
  return n == 0 ? 0.0 : std::sqrt(squared_error / static_cast<double>(n));
}

ErrorStats compare(std::span<const float> reference, std::span<const float> value) {
  FETTLE_CHECK_EQ(reference.size(), value.size());
  Sums sums;
  sums.add_row(reference, value);
  return sums.stats();
}

ErrorStats compare(MatView<const float> reference, const PackedWeight& value, ThreadPool* pool) {
  FETTLE_CHECK_EQ(reference.rows, static_cast<size_t>(value.rows));
  FETTLE_CHECK_EQ(reference.cols, static_cast<size_t>(value.cols));
  std::vector<Sums> rows(reference.rows);
  formats::for_rows(reference.rows, pool, [&](size_t r) {
    std::vector<float> decoded(reference.cols);
    decode_row(value, static_cast<int64_t>(r), decoded);
    rows[r].add_row(reference.row_span(r), decoded);
  });
  Sums total;
  for (const Sums& row : rows) total.add(row);
  return total.stats();
}

double mean_group_error(std::span<const float> reference, std::span<const float> value, size_t group) {
  FETTLE_CHECK_EQ(reference.size(), value.size());
  FETTLE_CHECK(group > 0 && reference.size() % group == 0);
  double sum = 0;
  size_t used = 0;
  for (size_t k = 0; k < reference.size(); k += group) {
    Sums s;
    s.add_row(reference.subspan(k, group), value.subspan(k, group));
    if (s.rr == 0) continue;
    sum += s.dd / s.rr;
    ++used;
  }
  return used == 0 ? 0.0 : sum / static_cast<double>(used);
}

}  // namespace fettle
