#pragma once

#include <string>

#include "context.h"

// The lossless methods of `fettle compress`.
namespace fettle::cli {

struct LosslessFlags {
  Common common;
  std::string model, out, method, code, unit;
  bool overwrite = false, dry_run = false;
};

bool is_lossless(const std::string& method);
void run_lossless(const LosslessFlags& flags, const CancelToken& cancel);

}  // namespace fettle::cli
