#include "eval_json.h"

namespace fettle::cli {
namespace {

// Half width of a 95 % interval of a normal mean, in standard errors.
constexpr double k95 = 1.96;

std::string with_interval(const eval::Estimate& e, const char* unit = "") {
  return fmt::format("{:.6f}{} ± {:.6f} (95 %: {:.6f} to {:.6f})", e.value, unit, e.error, e.value - k95 * e.error,
                     e.value + k95 * e.error);
}

}  // namespace

Json ppl_json(const std::string& model, const eval::PplResult& r) {
  Json out = Json::object();
  out["task"] = "ppl";
  out["model"] = model;
  out["method"] = eval::method_name(r.method);
  out["tokens"] = static_cast<uint64_t>(r.tokens);
  out["scored"] = static_cast<uint64_t>(r.scored);
  out["windows"] = static_cast<uint64_t>(r.windows);
  out["nll"] = r.nll;
  out["nll_stderr"] = r.nll_error;
  out["ppl"] = r.ppl;
  out["ppl_stderr"] = r.ppl_error;
  out["bits_per_byte"] = r.bits_per_byte;
  if (r.word_ppl > 0) out["word_ppl"] = r.word_ppl;
  out["ctx"] = static_cast<uint64_t>(r.ctx);
  if (r.stride > 0) out["stride"] = static_cast<uint64_t>(r.stride);
  return out;
}

Json kl_json(const std::string& model, const std::string& reference, const eval::KlResult& r) {
  Json out = ppl_json(model, r.model);
  out["reference"] = reference;
  out["reference_ppl"] = r.reference.ppl;
  out["reference_ppl_stderr"] = r.reference.ppl_error;
  const auto estimate = [&](const std::string& key, const eval::Estimate& e) {
    out[key] = e.value;
    out[key + "_stderr"] = e.error;
  };
  estimate("kl", r.kl);
  estimate("top1_agreement", r.top1_agreement);
  estimate("ln_ppl_ratio", r.ln_ppl_ratio);
  estimate("mean_delta_p", r.mean_delta_p);
  estimate("rms_delta_p", r.rms_delta_p);
  out["kl_max"] = r.kl_max;
  Json percentiles = Json::object();
  for (size_t i = 0; i < eval::kKlFractions.size(); ++i)
    percentiles[fmt::format("{:g}", 100 * eval::kKlFractions[i])] = r.kl_at[i];
  out["kl_percentiles"] = std::move(percentiles);
  return out;
}

std::string ppl_text(const eval::PplResult& r) {
  std::string out =
      fmt::format("method {}, context {}{}: {} windows, {} of {} tokens scored\n", eval::method_name(r.method), r.ctx,
                  r.stride > 0 ? fmt::format(", stride {}", r.stride) : "", r.windows, r.scored, r.tokens);
  out += fmt::format("nll: {:.6f} ± {:.6f}\nppl: {:.4f} ± {:.4f}\n", r.nll, r.nll_error, r.ppl, r.ppl_error);
  if (r.bits_per_byte > 0) out += fmt::format("bits per byte: {:.4f}\n", r.bits_per_byte);
  if (r.word_ppl > 0) out += fmt::format("ppl per word: {:.4f}\n", r.word_ppl);
  return out;
}

std::string kl_text(const eval::KlResult& r) {
  std::string out = ppl_text(r.model);
  out += fmt::format("reference ppl: {:.4f} ± {:.4f}\n", r.reference.ppl, r.reference.ppl_error);
  out += "ln(ppl / reference ppl): " + with_interval(r.ln_ppl_ratio) + "\n";
  out += "mean KL: " + with_interval(r.kl) + " nats\n";
  out += fmt::format(
      "KL percentiles: median {:.6f}, 90 % {:.6f}, 95 % {:.6f}, 99 % {:.6f}, 99.9 % {:.6f}, maximum {:.6f}\n",
      r.kl_at[4], r.kl_at[5], r.kl_at[6], r.kl_at[7], r.kl_at[8], r.kl_max);
  const auto percent = [](const eval::Estimate& e) {
    return fmt::format("{:.3f} ± {:.3f} %", 100 * e.value, 100 * e.error);
  };
  out += "same most probable token: " + percent(r.top1_agreement) + "\n";
  out += "change of the true token's probability: mean " + percent(r.mean_delta_p) + ", rms " + percent(r.rms_delta_p) +
         "\n";
  return out;
}

}  // namespace fettle::cli
