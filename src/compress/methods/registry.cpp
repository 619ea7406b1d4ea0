#include <vector>

#include "base/error.h"
#include "compress/method.h"
#include "compress/methods/rtn.h"
#include "compress/methods/sinq.h"

namespace fettle::compress {
namespace {

constexpr Method kMethods[] = {
    {"asinq", "sinq with column factors that also follow the size of the activations", nullptr, true},
    {"asinq-upstream", "asinq by the rule of huawei-csl/SINQ, which balances twice and may lose to sinq", nullptr,
     true},
    {"awq", "input channels scaled and ranges clipped by search, then rounding to nearest (arXiv 2306.00978)", nullptr},
    {"gpfq",
     "greedy rounding along the inputs, column by column, against the float model's stream (10.1137/22M1511709)",
     nullptr},
    {"gptq", "second-order rounding against calibration data, errors diffused to later columns (arXiv 2210.17323)",
     nullptr},
    {"mr-gptq",
     "gptq with rotated inputs, scales searched under the Hessian and reordered columns, for 4-bit floats (arXiv "
     "2509.23202)",
     nullptr},
    {"qronos",
     "second-order rounding that also repairs the error inherited from quantised layers in front (arXiv 2505.11695)",
     nullptr},
    {"rtn", "round every weight to the nearest code of its group; no calibration data", &quantise_rtn},
    {"sinq", "balance rows and columns by dual scales, then round; no calibration data", &quantise_sinq, true},
    {"smoothquant", "outlier inputs moved into the weights, then rounding to nearest (arXiv 2211.10438)", nullptr},
};

}  // namespace

std::span<const Method> all_methods() { return kMethods; }

const Method& find_method(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Method& m : kMethods) {
    if (m.name == name) return m;
    known.push_back(m.name);
  }
  fail(ErrorCode::kUsage, "--method: expected one of {}, found '{}'", fmt::join(known, ", "), printable(name));
}

bool zero_points_by_default(std::string_view method, Format format) {
  return find_method(method).column_scales &&
         (format == Format::kInt2 || format == Format::kInt3 || format == Format::kInt4);
}

}  // namespace fettle::compress
