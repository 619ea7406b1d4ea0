#include "compress/methods/rtn.h"

#include <vector>

namespace fettle::compress {

PackedWeight quantise_rtn(const LayerJob& job) {
  if (job.search == GridSearch::kAbsMax) return encode(format_info(job.format), job.weight, job.options, job.pool);
  const Grid grid = make_grid(job.weight, job.format, job.options, job.search, {}, job.pool);
  std::vector<uint8_t> codes(job.weight.rows * job.weight.cols);
  round_to_grid(grid, job.weight, codes, job.pool);
  return pack_grid(grid, codes);
}

}  // namespace fettle::compress
