#include "formats_help.h"

#include <algorithm>

namespace fettle::cli {
namespace {

constexpr Format kWritable[] = {Format::kFp8,   Format::kInt2,  Format::kInt3, Format::kInt4, Format::kInt8,
                                Format::kMxfp4, Format::kMxfp8, Format::kNF4,  Format::kNvfp4};

}  // namespace

std::vector<std::string> writable_formats() {
  std::vector<std::string> names;
  for (const Format f : kWritable) names.emplace_back(format_info(f).name);
  return names;
}

std::string formats_help() {
  std::string out = "formats:\n";
  for (const Format f : kWritable) {
    const FormatInfo& info = format_info(f);
    const std::string group =
        info.default_group > 0 ? fmt::format("groups of {}", info.default_group) : "one scale per row";
    out += fmt::format("{}: {}; default {}\n", info.name, info.summary, group);
  }
  return out;
}

Format parse_format(const std::string& name) {
  const FormatInfo* info = find_format(name);
  if (info == nullptr || std::find(std::begin(kWritable), std::end(kWritable), info->format) == std::end(kWritable))
    fail(ErrorCode::kUsage, "--format: expected one of {}, found '{}'", fmt::join(writable_formats(), ", "),
         printable(name));
  return info->format;
}

}  // namespace fettle::cli
