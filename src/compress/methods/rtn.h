#pragma once

#include "compress/method.h"

namespace fettle::compress {

// Round to nearest: the format's own encoder with its default scale rule, or scales by job.search. The baseline of
// every other method.
PackedWeight quantise_rtn(const LayerJob& job);

}  // namespace fettle::compress
