#include "compress/methods/rtn.h"

namespace fettle::compress {

PackedWeight quantise_rtn(const LayerJob& job) {
  return encode(format_info(job.format), job.weight, job.options, job.pool);
}

}  // namespace fettle::compress
