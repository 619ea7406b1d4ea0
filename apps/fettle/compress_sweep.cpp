#include "compress_sweep.h"

#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "compress/manifest.h"
#include "compress/recipe.h"
#include "eval/html_report.h"

namespace fettle::cli {
namespace {

struct Done {
  double bits = 0, error = 0, seconds = 0;
};

Done compress_one(const SweepJob& job, const compress::SweepPoint& point, const std::string& out, ThreadPool& pool,
                  const CancelToken& cancel) {
  if (!compress::is_calibrated(point.options)) {
    const auto r = compress::compress(job.model, out, point.options.compress, pool, &cancel);
    return {r.plan.bits_per_weight(), r.mean_error(), r.seconds};
  }
  compress::PipelineOptions options = point.options;
  options.resume = file_exists(out + ".partial");
  options.mem_limit = job.mem_limit;
  const auto r = compress::run_pipeline(job.model, out, options, pool, &cancel);
  return {r.plan.bits_per_weight(), r.mean_error(), r.seconds};
}

// Whether `out` is the finished result of this recipe. Throws kUsage when it is something else.
bool finished(const std::string& out, const compress::SweepPoint& point) {
  if (!file_exists(out)) return false;
  const std::string manifest = path_join(out, compress::kManifestName);
  if (file_exists(manifest)) {
    const Json found = parse_json_file(manifest);
    const Json* job = found.find("job");
    const Json* recipe = job ? job->find("recipe") : nullptr;
    if (recipe && recipe->dump() == compress::recipe_json(point.options).dump()) return true;
  }
  fail(ErrorCode::kUsage, "{}: exists and is not the result of this recipe; remove it or choose another -o", out);
}

}  // namespace

void run_sweep(const SweepJob& job, const CancelToken& cancel) {
  const std::vector<compress::SweepPoint> points = compress::read_sweep(job.sweep, {});
  const auto pool = start(job.common);
  std::filesystem::create_directories(job.out);
  eval::ReportTable table;
  table.columns = {{"variant", false}, {"bits/weight"}, {"weight error"}, {"seconds"}};
  Json rows = Json::array();
  for (size_t i = 0; i < points.size(); ++i) {
    check_cancel(&cancel);
    const compress::SweepPoint& point = points[i];
    const std::string out = path_join(job.out, point.name);
    const bool skip = finished(out, point);
    log_info("{} of {}: {}{}", i + 1, points.size(), point.name, skip ? ", there already" : "");
    Json row = Json::object();
    row["name"] = point.name;
    row["output"] = out;
    row["skipped"] = skip;
    if (skip) {
      table.rows.push_back({point.name, "-", "-", "-"});
    } else {
      const Done done = compress_one(job, point, out, *pool, cancel);
      table.rows.push_back({point.name, fmt::format("{:.3f}", done.bits), fmt::format("{:.6f}", done.error),
                            fmt::format("{:.2f}", done.seconds)});
      row["bits_per_weight"] = done.bits;
      row["error"] = done.error;
      row["seconds"] = done.seconds;
    }
    rows.push_back(std::move(row));
  }
  if (job.common.json) {
    Json out = Json::object();
    out["variants"] = std::move(rows);
    return print_json(out);
  }
  print(eval::render_text(table) +
        fmt::format("compare them: fettle report {} {}/* --text FILE -o report.html\n", job.model, job.out));
}

}  // namespace fettle::cli
