#include "decode/samplers/registry.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "decode/samplers/eta.h"
#include "decode/samplers/min_p.h"
#include "decode/samplers/no_repeat_ngram.h"
#include "decode/samplers/penalties.h"
#include "decode/samplers/tail_free.h"
#include "decode/samplers/temperature.h"
#include "decode/samplers/top_k.h"
#include "decode/samplers/top_n_sigma.h"
#include "decode/samplers/top_p.h"
#include "decode/samplers/typical.h"
#include "decode/samplers/xtc.h"

namespace fettle::decoding {
namespace {

using P = SamplingParams;
using C = StepContext;
using Row = std::span<float>;

size_t min_keep(const C& x) { return static_cast<size_t>(std::max(x.params.min_keep, 1)); }
bool hf(const C& x) { return x.params.order == SamplerOrder::kHf; }

void penalties(Row row, const C& x) {
  const auto window = last_tokens(x.history, x.params.penalty_last_n);
  const auto counted = x.params.penalize_prompt ? window : last_tokens(x.generated, x.params.penalty_last_n);
  apply_penalties(row, {x.params.repetition_penalty, x.params.presence_penalty, x.params.frequency_penalty}, window,
                  counted);
}

bool penalties_active(const P& p) {
  return p.penalty_last_n != 0 && (p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0);
}

void xtc(Candidates& c, const C& x) {
  if (x.xtc_draw < x.params.xtc_probability)
    exclude_top_choices(c, x.params.xtc_threshold, min_keep(x), x.params.xtc_keep_ids);
}

void top_h(Candidates& c, const C& x) {
  const TopHReport report = keep_top_h(c, x.params.top_h, x.params.top_h_mode);
  if (x.top_h_report != nullptr) *x.top_h_report = report;
}

// clang-format off
constexpr SamplerInfo kSamplers[] = {
    {"dry", "", 'd', "penalise tokens that continue a repetition, by its length",
     [](const P& p) { return p.dry_multiplier != 0 && p.dry_penalty_last_n != 0; },
     [](Row row, const C& x) { apply_dry(row, x.dry, x.history); }, nullptr},
    {"epsilon", "eps epsilon_cutoff", 0, "keep p >= epsilon",
     [](const P& p) { return p.epsilon_cutoff > 0; }, nullptr,
     [](Candidates& c, const C& x) { keep_epsilon(c, x.params.epsilon_cutoff, min_keep(x)); }},
    {"eta", "eta_cutoff", 0, "keep p >= min(eta, sqrt(eta) * exp(-H))",
     [](const P& p) { return p.eta_cutoff > 0; }, nullptr,
     [](Candidates& c, const C& x) { keep_eta(c, x.params.eta_cutoff, min_keep(x)); }},
    {"min_p", "", 'm', "keep p >= min_p * p_max",
     [](const P& p) { return p.min_p > 0; }, nullptr,
     [](Candidates& c, const C& x) { keep_min_p(c, x.params.min_p, min_keep(x)); }},
    {"no_repeat_ngram", "no_repeat_ngram_size", 0, "ban tokens that complete an n-gram already seen",
     [](const P& p) { return p.no_repeat_ngram_size > 0; },
     [](Row row, const C& x) { ban_repeated_ngrams(row, x.history, x.params.no_repeat_ngram_size); }, nullptr},
    {"penalties", "", 'e', "repetition, presence and frequency penalties", &penalties_active, &penalties, nullptr},
    {"temperature", "temp temp_ext", 't', "divide logits by the (dynamic) temperature",
     [](const P& p) { return p.temperature != 1 || p.dynatemp_range > 0; }, nullptr,
     [](Candidates& c, const C& x) {
       scale_dynamic_temperature(c, x.params.temperature, x.params.dynatemp_range, x.params.dynatemp_exponent);
     }},
    {"tfs_z", "tfs", 0, "tail-free: cut where the sorted curve goes flat",
     [](const P& p) { return p.tfs_z < 1; }, nullptr,
     [](Candidates& c, const C& x) { keep_tail_free(c, x.params.tfs_z, min_keep(x)); }},
    {"top_h", "", 0, "entropy-bounded set, H(kept) <= alpha * H(all)",
     [](const P& p) { return p.top_h > 0; }, nullptr, &top_h},
    {"top_k", "", 'k', "keep the k most probable",
     [](const P& p) { return p.top_k > 0; }, nullptr,
     [](Candidates& c, const C& x) { keep_top_k(c, std::max(x.params.top_k, x.params.min_keep), hf(x)); }},
    {"top_n_sigma", "top_nsigma nsigma", 's', "keep logits within n standard deviations of the largest",
     [](const P& p) { return p.top_n_sigma >= 0; }, nullptr,
     [](Candidates& c, const C& x) { keep_top_n_sigma(c, x.params.top_n_sigma); }},
    {"top_p", "nucleus", 'p', "keep the smallest set of probability top_p",
     [](const P& p) { return p.top_p < 1; }, nullptr,
     [](Candidates& c, const C& x) { keep_top_p(c, x.params.top_p, min_keep(x)); }},
    {"typ_p", "typical typical_p", 'y', "keep the tokens of most typical surprise, of probability typical_p",
     [](const P& p) { return p.typical_p < 1; }, nullptr,
     [](Candidates& c, const C& x) { keep_typical(c, x.params.typical_p, min_keep(x), hf(x)); }},
    {"xtc", "", 'x', "sometimes remove all but the least likely of the likely tokens",
     [](const P& p) { return p.xtc_probability > 0 && p.xtc_threshold <= 0.5f; }, nullptr, &xtc},
};

constexpr std::string_view kLlamaOrder[] = {"penalties", "no_repeat_ngram", "dry", "top_n_sigma", "top_k", "tfs_z", "typ_p",
                                            "top_p", "min_p", "epsilon", "eta", "xtc", "temperature", "top_h"};
constexpr std::string_view kHfOrder[] = {"penalties", "no_repeat_ngram", "dry", "temperature", "top_h", "top_k", "top_p",
                                         "min_p", "typ_p", "epsilon", "eta", "top_n_sigma", "tfs_z", "xtc"};
// clang-format on

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return (x == '-' ? '_' : x) == (y == '-' ? '_' : y); });
}

bool answers_to(const SamplerInfo& s, std::string_view name) {
  if (same_name(s.name, name)) return true;
  for (std::string_view rest = s.aliases; !rest.empty();) {
    const size_t end = std::min(rest.find(' '), rest.size());
    if (same_name(rest.substr(0, end), name)) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

std::string all_names() {
  std::string names;
  for (const SamplerInfo& s : kSamplers) names += (names.empty() ? "" : ", ") + std::string(s.name);
  return names;
}

const SamplerInfo& require_sampler(std::string_view name) {
  if (const SamplerInfo* s = find_sampler(name)) return *s;
  fail(ErrorCode::kUsage, "samplers: expected any of {}, found '{}'", all_names(), printable(name));
}

}  // namespace

std::span<const SamplerInfo> samplers() { return kSamplers; }

const SamplerInfo* find_sampler(std::string_view name) {
  for (const SamplerInfo& s : kSamplers)
    if (answers_to(s, name)) return &s;
  return nullptr;
}

std::vector<const SamplerInfo*> build_chain(const SamplingParams& params) {
  std::vector<const SamplerInfo*> chain;
  const auto add = [&](std::string_view name) {
    const SamplerInfo& s = require_sampler(name);
    // Mirostat decides alone how many tokens stay; only what shapes the logits goes with it.
    const bool replaced = params.mirostat != 0 && s.apply != nullptr && s.name != "temperature";
    if (!replaced && s.active(params)) chain.push_back(&s);
  };
  if (params.samplers.empty())
    for (std::string_view name : params.order == SamplerOrder::kHf ? std::span<const std::string_view>(kHfOrder)
                                                                   : std::span<const std::string_view>(kLlamaOrder))
      add(name);
  for (const std::string& name : params.samplers) add(name);
  return chain;
}

std::vector<std::string> parse_sampler_names(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(";,"), text.size());
    names.emplace_back(require_sampler(text.substr(0, end)).name);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return names;
}

std::vector<std::string> parse_sampler_letters(std::string_view text) {
  std::vector<std::string> names;
  for (const char& letter : text) {
    const auto* s = std::find_if(std::begin(kSamplers), std::end(kSamplers),
                                 [letter](const SamplerInfo& x) { return x.letter != 0 && x.letter == letter; });
    if (s == std::end(kSamplers))
      fail(ErrorCode::kUsage, "sampler letters: expected some of 'edskypmxt', found '{}'",
           printable(std::string_view(&letter, 1)));
    names.emplace_back(s->name);
  }
  return names;
}

}  // namespace fettle::decoding
