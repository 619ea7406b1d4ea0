// The table of docs/formats.md is measured: every registry row has one line there, and its numbers are those of this
// test. A failure prints the line as it should be.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "base/thread_pool.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/test_util.h"
#include "tensor/metrics.h"

namespace fettle::formats {
namespace {

struct DocRow {
  double bits, gauss, laplace;
};

// Lines "| `name` | bits | gauss | laplace | ...".
std::map<std::string, DocRow> read_table() {
  std::ifstream in(std::string(FETTLE_SOURCE_DIR) + "/docs/formats.md");
  std::map<std::string, DocRow> rows;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("| `")) continue;
    const size_t end = line.find('`', 3);
    std::istringstream cells(line.substr(end + 1));
    DocRow row{};
    char bar = 0;
    if (cells >> bar >> row.bits >> bar >> row.gauss >> bar >> row.laplace) rows[line.substr(3, end - 3)] = row;
  }
  return rows;
}

void expect_close(double got, double want) { EXPECT_NEAR(got, want, 0.01 * want + 1e-12); }

// What the format is made for: BF16 weights where it packs those, else any.
std::vector<float> samples_for(const FormatInfo& info, std::vector<float> samples) {
  if (info.kind == CodeKind::kBF16Planes)
    for (float& v : samples) v = bf16_to_f32(f32_to_bf16(v));
  return samples;
}

TEST(FormatsDoc, NumbersAreMeasured) {
  constexpr size_t kCols = 1024;
  const std::map<std::string, DocRow> rows = read_table();
  ThreadPool pool(2);
  for (const FormatInfo& info : all_formats()) {
    if (info.encode == nullptr) continue;
    const std::vector<float> g = samples_for(info, gauss(size_t{1} << 18, 31));
    const std::vector<float> l = samples_for(info, laplace(size_t{1} << 18, 32));
    const PackedWeight w = encode(info, as_matrix(g, kCols), {}, pool);
    const DocRow want{
        w.file_bits_per_weight(), compare(as_matrix(g, kCols), w, &pool).relative_squared_error,
        compare(as_matrix(l, kCols), encode(info, as_matrix(l, kCols), {}, pool), &pool).relative_squared_error};
    SCOPED_TRACE(fmt::format("| `{}` | {:.4g} | {:.3g} | {:.3g} |", info.name, want.bits, want.gauss, want.laplace));
    const auto row = rows.find(std::string(info.name));
    if (row == rows.end()) {
      ADD_FAILURE() << "docs/formats.md has no line for " << info.name;
      continue;
    }
    expect_close(row->second.bits, want.bits);
    expect_close(row->second.gauss, want.gauss);
    expect_close(row->second.laplace, want.laplace);
  }
}

}  // namespace
}  // namespace fettle::formats
