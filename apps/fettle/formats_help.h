#pragma once

#include <string>
#include <vector>

#include "tensor/weight.h"

namespace fettle::cli {

// Formats that compress can write, "int4", "nvfp4", ...
std::vector<std::string> writable_formats();
// One line per format for --help.
std::string formats_help();
// Throws kUsage with the list.
Format parse_format(const std::string& name);

}  // namespace fettle::cli
