// Vectors of the samplers (tests/data/vectors/samplers/README.md and top-h/README.md): supports and changed logits of
// llama.cpp's samplers, of F64 references of the Hugging Face definitions and of the three Top-H rules. Every file
// whose name starts with the vector's name is run, here and in $FETTLE_VECTORS_DIR.
#include <cmath>
#include <functional>

#include "decode/samplers/candidates.h"
#include "decode/samplers/dry.h"
#include "decode/samplers/eta.h"
#include "decode/samplers/min_p.h"
#include "decode/samplers/mirostat.h"
#include "decode/samplers/penalties.h"
#include "decode/samplers/tail_free.h"
#include "decode/samplers/temperature.h"
#include "decode/samplers/top_h.h"
#include "decode/samplers/top_k.h"
#include "decode/samplers/top_n_sigma.h"
#include "decode/samplers/top_p.h"
#include "decode/samplers/typical.h"
#include "decode/samplers/xtc.h"
#include "vector_files.h"

namespace fettle::decoding {
namespace {

using golden::for_each_file;
using golden::SafetensorsFile;

// A tensor's values with their shape.
template <typename T>
struct Values {
  std::vector<T> data;
  std::vector<size_t> shape;

  Values(const SafetensorsFile& f, const std::string& name) {
    const Tensor t = f.tensor(name);
    data = golden::values<T>(f, name);
    for (int64_t d : t.shape()) shape.push_back(static_cast<size_t>(d));
  }
  // Row `i` of the tensor seen as [.., last dimension].
  std::span<const T> row(size_t i) const { return std::span<const T>(data).subspan(i * shape.back(), shape.back()); }
  size_t rows() const { return data.size() / shape.back(); }
};

Candidates candidates(std::vector<float>& row) {
  Candidates c;
  c.reset(row);
  return c;
}

std::vector<uint8_t> mask(const Candidates& c, size_t vocab) {
  std::vector<uint8_t> out(vocab, 0);
  for (const Candidate& x : c.items()) out[static_cast<size_t>(x.id)] = 1;
  return out;
}

size_t differences(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += a[i] != b[i];
  return n;
}

void expect_close(std::span<const float> got, std::span<const float> want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i]) continue;
    ASSERT_NEAR(got[i], want[i], 1e-5 + 1e-5 * std::abs(want[i])) << "token " << i;
  }
}

using Apply = std::function<void(Candidates&, std::span<const float> params)>;

// Applies one sampler to each row under each setting and compares the support. `ambiguous` rows may differ by one
// token.
void check_masks(const SafetensorsFile& f, const std::string& stem, const Apply& apply) {
  SCOPED_TRACE(stem);
  const Values<float> logits(f, "logits"), params(f, stem + ".params");
  const Values<uint8_t> keep(f, stem + ".keep");
  std::vector<uint8_t> ambiguous(params.rows() * logits.rows(), 0);
  if (f.find(stem + ".ambiguous") != nullptr) ambiguous = Values<uint8_t>(f, stem + ".ambiguous").data;
  for (size_t p = 0; p < params.rows(); ++p)
    for (size_t r = 0; r < logits.rows(); ++r) {
      std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
      Candidates c = candidates(row);
      apply(c, params.row(p));
      const size_t at = p * logits.rows() + r;
      EXPECT_LE(differences(mask(c, row.size()), keep.row(at)), ambiguous[at] ? 1u : 0u)
          << "setting " << p << " row " << r << " kept " << c.size();
    }
}

size_t count(float x) { return x > 0 ? static_cast<size_t>(x) : 0; }

TEST(LlamaSamplers, SupportsAreEqual) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    check_masks(f, "lcpp.top_k",
                [](Candidates& c, auto p) { keep_top_k(c, static_cast<int64_t>(p[0]), /*keep_ties=*/false); });
    check_masks(f, "lcpp.top_p", [](Candidates& c, auto p) { keep_top_p(c, p[0], count(p[1])); });
    check_masks(f, "lcpp.min_p", [](Candidates& c, auto p) { keep_min_p(c, p[0], count(p[1])); });
    check_masks(f, "lcpp.typical", [](Candidates& c, auto p) {
      // min_keep 0 wraps around in that snapshot, so that nothing is cut; we do not copy this.
      if (p[1] > 0) keep_typical(c, p[0], count(p[1]), /*keep_ties=*/false);
    });
    check_masks(f, "lcpp.xtc", [](Candidates& c, auto p) { exclude_top_choices(c, p[1], count(p[2])); });
    check_masks(f, "lcpp.top_n_sigma", [](Candidates& c, auto p) { keep_top_n_sigma(c, p[0]); });
  });
}

TEST(HfSamplers, SupportsAreEqual) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    check_masks(f, "ref.top_k",
                [](Candidates& c, auto p) { keep_top_k(c, static_cast<int64_t>(p[0]), /*keep_ties=*/true); });
    check_masks(f, "ref.top_p", [](Candidates& c, auto p) { keep_top_p(c, p[0], 1); });
    check_masks(f, "ref.min_p", [](Candidates& c, auto p) { keep_min_p(c, p[0], 1); });
    check_masks(f, "ref.typical", [](Candidates& c, auto p) { keep_typical(c, p[0], 1, /*keep_ties=*/true); });
    check_masks(f, "ref.epsilon", [](Candidates& c, auto p) { keep_epsilon(c, p[0], 1); });
    check_masks(f, "ref.eta", [](Candidates& c, auto p) { keep_eta(c, p[0], 1); });
    check_masks(f, "ref.tfs", [](Candidates& c, auto p) { keep_tail_free(c, p[0], 1); });
    const Values<float> ties(f, "ties.logits");
    const Values<uint8_t> keep(f, "ties.hf_top_k7.keep");
    for (size_t r = 0; r < ties.rows(); ++r) {
      std::vector<float> row(ties.row(r).begin(), ties.row(r).end());
      Candidates c = candidates(row);
      keep_top_k(c, 7, /*keep_ties=*/true);
      EXPECT_EQ(differences(mask(c, row.size()), keep.row(r)), 0u) << r;
      c.reset(row);
      keep_top_k(c, 7, /*keep_ties=*/false);
      EXPECT_EQ(c.size(), 7u);
    }
  });
}

TEST(LlamaSamplers, DynamicTemperature) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits"), params(f, "lcpp.temp_ext.params"), want(f, "lcpp.temp_ext.out_logits");
    for (size_t p = 0; p < params.rows(); ++p)
      for (size_t r = 0; r < logits.rows(); ++r) {
        SCOPED_TRACE(fmt::format("setting {} row {}", p, r));
        std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
        Candidates c = candidates(row);
        scale_dynamic_temperature(c, params.row(p)[0], params.row(p)[1], params.row(p)[2]);
        std::vector<float> got(row.size(), -INFINITY);
        for (const Candidate& x : c.items())
          got[static_cast<size_t>(x.id)] = static_cast<float>(x.logit * c.inverse_temperature());
        expect_close(got, want.row(p * logits.rows() + r));
      }
  });
}

TEST(LlamaSamplers, Penalties) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits"), params(f, "lcpp.penalties.params"), want(f, "lcpp.penalties.out_logits");
    const Values<int32_t> tokens(f, "lcpp.penalties.tokens");
    for (size_t p = 0; p < params.rows(); ++p)
      for (size_t r = 0; r < logits.rows(); ++r) {
        SCOPED_TRACE(fmt::format("setting {} row {}", p, r));
        const auto x = params.row(p);
        std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
        const auto window = last_tokens(tokens.row(r), static_cast<int64_t>(x[0]));
        apply_penalties(row, {x[1], x[3], x[2]}, window, window);
        expect_close(row, want.row(p * logits.rows() + r));
      }
  });
}

TEST(HfSamplers, RepetitionPenalty) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits"), penalty(f, "ref.repetition.penalty"), want(f, "ref.repetition.out_logits");
    const Values<int32_t> tokens(f, "ref.repetition.tokens");
    for (size_t r = 0; r < logits.rows(); ++r) {
      std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
      apply_penalties(row, {penalty.data[0], 0, 0}, tokens.row(r), {});
      expect_close(row, want.row(r));
    }
  });
}

TEST(LlamaSamplers, Dry) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits"), params(f, "lcpp.dry.params"), want(f, "lcpp.dry.out_logits");
    const Values<int32_t> tokens(f, "lcpp.dry.tokens"), breaker(f, "lcpp.dry.breaker");
    for (size_t with_breaker : {0, 1})
      for (size_t p = 0; p < params.rows(); ++p)
        for (size_t r = 0; r < logits.rows(); ++r) {
          SCOPED_TRACE(fmt::format("breaker {} setting {} row {}", with_breaker, p, r));
          const auto x = params.row(p);
          Dry dry{x[0], x[1], static_cast<int64_t>(x[2]), static_cast<int64_t>(x[3]), {}};
          std::vector<int32_t> history(tokens.row(r).begin(), tokens.row(r).end());
          if (with_breaker == 1) dry.breakers = {{breaker.data[0]}};
          std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
          apply_dry(row, dry, history);
          expect_close(row, want.row((with_breaker * params.rows() + p) * logits.rows() + r));
        }
  });
}

// The recorded draws are replayed: the kept counts must follow. Version 1 rounds a power law: one token of freedom.
TEST(LlamaSamplers, Mirostat) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits"), tau_eta(f, "lcpp.mirostat.tau_eta");
    const Values<int32_t> selected(f, "lcpp.mirostat.selected"), n_kept(f, "lcpp.mirostat.n_kept");
    for (size_t version : {1, 2})
      for (size_t p = 0; p < tau_eta.rows(); ++p)
        for (size_t r = 0; r < logits.rows(); ++r) {
          const size_t at = ((version - 1) * tau_eta.rows() + p) * logits.rows() + r;
          Mirostat state = start_mirostat(tau_eta.row(p)[0], tau_eta.row(p)[1]);
          for (size_t t = 0; t < selected.row(at).size(); ++t) {
            SCOPED_TRACE(fmt::format("v{} setting {} row {} step {}", version, p, r, t));
            std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
            Candidates c = candidates(row);
            if (version == 1)
              keep_mirostat_v1(c, state, static_cast<int64_t>(row.size()));
            else
              keep_mirostat_v2(c, state);
            const auto want = static_cast<double>(n_kept.row(at)[t]);
            ASSERT_NEAR(static_cast<double>(c.size()), want, version == 1 ? 1 : 0);
            // From here on the recorded count, so that a rounding of v1 does not carry over.
            c.reset(row);
            c.keep(static_cast<size_t>(n_kept.row(at)[t]));
            c.sort(c.size());
            size_t i = 0;
            while (i < c.size() && c[i].id != selected.row(at)[t]) ++i;
            ASSERT_LT(i, c.size()) << "the recorded draw was cut";
            update_mirostat(state, c, i);
          }
        }
  });
}

TEST(LlamaSamplers, DefaultChain) {
  for_each_file("samplers", "samplers_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits"), want(f, "lcpp.default_chain.probs");
    for (size_t r = 0; r < logits.rows(); ++r) {
      std::vector<float> row(logits.row(r).begin(), logits.row(r).end());
      Candidates c = candidates(row);
      keep_top_k(c, 40, false);
      keep_top_p(c, 0.95f, 0);
      keep_min_p(c, 0.05f, 0);
      scale_temperature(c, 0.8f);
      std::vector<double> probs(row.size(), 0);
      const SoftmaxStats s = c.stats();
      for (size_t i = 0; i < c.size(); ++i) probs[static_cast<size_t>(c[i].id)] = c.weight(i, s.max) / s.z;
      for (size_t i = 0; i < row.size(); ++i) ASSERT_NEAR(probs[i], want.row(r)[i], 1e-6) << "row " << r;
    }
  });
}

TopHReport run_top_h(std::span<const float> logits, float temperature, float alpha, TopHMode mode,
                     std::vector<uint8_t>& kept) {
  std::vector<float> row(logits.begin(), logits.end());
  Candidates c = candidates(row);
  scale_temperature(c, temperature);
  const TopHReport report = keep_top_h(c, alpha, mode);
  EXPECT_EQ(report.kept, c.size());
  kept = mask(c, row.size());
  return report;
}

TEST(TopH, EveryModeKeepsTheSameTokens) {
  for_each_file("top-h", "toph_", [](const SafetensorsFile& f) {
    const Values<float> logits(f, "logits");
    const std::vector<float> temperature = Values<float>(f, "temperature").data, alpha = Values<float>(f, "alpha").data;
    const Values<uint8_t> paper(f, "keep_paper");
    const std::vector<double> h_p = Values<double>(f, "H_p").data, h_q = Values<double>(f, "H_q").data,
                              mass = Values<double>(f, "mass").data;
    for (size_t r = 0; r < logits.rows(); ++r) {
      SCOPED_TRACE(fmt::format("row {} alpha {} temperature {}", r, alpha[r], temperature[r]));
      std::vector<uint8_t> kept;
      const TopHReport report = run_top_h(logits.row(r), temperature[r], alpha[r], TopHMode::kPaper, kept);
      EXPECT_EQ(differences(kept, paper.row(r)), 0u) << report.kept;
      EXPECT_NEAR(report.entropy_all, h_p[r], 1e-5 * h_p[r] + 1e-9);
      EXPECT_NEAR(report.entropy_kept, h_q[r], 1e-5 * h_q[r] + 1e-9);
      EXPECT_NEAR(report.mass, mass[r], 1e-6);
      if (f.find("keep_hf") == nullptr) continue;
      run_top_h(logits.row(r), temperature[r], alpha[r], TopHMode::kHf, kept);
      EXPECT_EQ(differences(kept, Values<uint8_t>(f, "keep_hf").row(r)), 0u);
      if (Values<uint8_t>(f, "repo_failed").data[r]) continue;
      run_top_h(logits.row(r), temperature[r], alpha[r], TopHMode::kRepo, kept);
      EXPECT_LE(differences(kept, Values<uint8_t>(f, "keep_repo").row(r)),
                Values<uint8_t>(f, "repo_ambiguous").data[r] ? 1u : 0u);
    }
  });
}

// The greedy prefix against the best subset of 15 tokens: never better, equal to the recorded greedy answer.
TEST(TopH, GreedyPrefixAgainstExhaustiveSearch) {
  for_each_file("top-h", "ecmm_", [](const SafetensorsFile& f) {
    const Values<double> p(f, "p");
    const std::vector<double> optimal = Values<double>(f, "optimal_mass").data,
                              greedy = Values<double>(f, "greedy_mass").data;
    for (size_t r = 0; r < p.rows(); ++r) {
      std::vector<float> row;
      for (double x : p.row(r)) row.push_back(static_cast<float>(std::log(x)));
      Candidates c = candidates(row);
      const TopHReport report = keep_top_h(c, 0.4, TopHMode::kPaper);
      EXPECT_NEAR(report.mass, greedy[r], 1e-5) << r;
      EXPECT_LE(report.mass, optimal[r] + 1e-6) << r;
      EXPECT_LE(report.entropy_kept, 0.4 * report.entropy_all * (1 + 1e-9)) << r;
    }
  });
}

}  // namespace
}  // namespace fettle::decoding
