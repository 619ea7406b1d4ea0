#include "compress_lossless.h"

#include <memory>

#include "base/log.h"
#include "compress/lossless.h"

namespace fettle::cli {
namespace {

Json lossless_json(const LosslessFlags& f, const compress::LosslessReport& r) {
  Json out = Json::object();
  out["method"] = f.method;
  out["format"] = f.method;
  out["output"] = f.out;
  out["seconds"] = r.seconds;
  out["parameters"] = r.parameters;
  out["bytes_before"] = r.bytes_before;
  out["bytes_after"] = r.bytes_after;
  out["model_bits_per_weight"] = 8 * static_cast<double>(r.bytes_after) / static_cast<double>(r.parameters);
  out["dry_run"] = f.dry_run;
  Json units = Json::array();
  for (const compress::LosslessUnit& u : r.units) {
    Json unit = Json::object();
    unit["name"] = u.name;
    unit["bytes_before"] = u.bytes_before;
    unit["bytes_after"] = u.bytes_after;
    unit["stored_raw"] = !u.reason.empty();
    unit["reason"] = u.reason;
    unit["note"] = u.note;
    units.push_back(std::move(unit));
  }
  out["units"] = std::move(units);
  return out;
}

std::string lossless_text(const LosslessFlags& f, const compress::LosslessReport& r) {
  std::string out;
  uint64_t before = 0, after = 0;
  size_t packed = 0;
  for (const compress::LosslessUnit& u : r.units) {
    if (!u.reason.empty()) {
      out += fmt::format("stored as it is: {}: {}\n", u.name, u.reason);
      continue;
    }
    if (!u.note.empty()) out += fmt::format("{}: {}\n", u.name, u.note);
    ++packed;
    before += u.bytes_before;
    after += u.bytes_after;
  }
  const double ratio = before > 0 ? 100 * static_cast<double>(after) / static_cast<double>(before) : 100;
  return out + fmt::format(
                   "{}: {}, {} units packed to {:.2f} % ({:.3f} bits/weight), {} stored as they are\n"
                   "size: {} -> {}\ntime: {:.2f} s\n",
                   f.out.empty() ? f.model : f.out, f.method, packed, ratio, 16 * ratio / 100, r.units.size() - packed,
                   human_bytes(static_cast<double>(r.bytes_before)), human_bytes(static_cast<double>(r.bytes_after)),
                   r.seconds);
}

}  // namespace

bool is_lossless(const std::string& method) { return method == "df11" || method == "fx3"; }

void run_lossless(const LosslessFlags& f, const CancelToken& cancel) {
  compress::LosslessOptions o;
  o.method = f.method == "df11" ? compress::LosslessMethod::kDf11 : compress::LosslessMethod::kFx3;
  o.code = f.code == "fast" ? df11::CodeMode::kFast : df11::CodeMode::kUpstream;
  o.unit = f.unit == "matrix" ? compress::Df11Unit::kMatrix : compress::Df11Unit::kBlock;
  o.overwrite = f.overwrite ? Overwrite::kYes : Overwrite::kNo;
  const auto pool = start(f.common);
  if (f.out.empty() && !f.dry_run) fail(ErrorCode::kUsage, "fettle compress: expected -o OUT (or --dry-run)");
  std::unique_ptr<Progress> progress;
  const compress::LosslessReport r = compress::pack_lossless(f.model, f.dry_run ? std::string() : f.out, o, *pool,
                                                             &cancel, [&](size_t done, size_t total) {
                                                               if (!progress)
                                                                 progress = std::make_unique<Progress>("pack", total);
                                                               progress->update(done);
                                                             });
  progress.reset();
  f.common.json ? print_json(lossless_json(f, r)) : print(lossless_text(f, r));
}

}  // namespace fettle::cli
