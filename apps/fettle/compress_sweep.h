#pragma once

#include <string>

#include "base/cancel.h"
#include "context.h"

namespace fettle::cli {

struct SweepJob {
  const Common& common;
  std::string model, out, sweep;  // sweep: the file, see compress::read_sweep
  uint64_t mem_limit = 0;
};

// Runs every combination into out/NAME. Folders that hold the result of the same recipe are left as they are, so that
// an interrupted sweep goes on where it was.
void run_sweep(const SweepJob& job, const CancelToken& cancel);

}  // namespace fettle::cli
