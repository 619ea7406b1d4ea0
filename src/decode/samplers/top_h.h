#pragma once

#include <string_view>

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Top-H (Baghaei Potraghloo et al., NeurIPS 2025, arXiv 2509.02510): bounds the entropy of what is sampled. Three
// different rules carry the name; docs/techniques/top-h.md compares them. p = softmax at the temperature in force,
// sorted; G_j = p_1 + .. + p_j, h_j = sum_{i <= j} p_i ln p_i.
enum class TopHMode {
  kPaper,  // Algorithm 1: ln G_j - h_j / G_j <= alpha H(p), H(p) over the whole vocabulary
  kRepo,   // the authors' logits processor: -h_j <= alpha * -h_N, N = 100 best, p over all candidates
  kHf,     // Transformers' top_h: as kRepo with p renormalised over the N best
};
TopHMode parse_top_h_mode(std::string_view name);  // "paper", "repo", "hf"; throws kUsage
std::string_view top_h_mode_name(TopHMode mode);

// What the rule did: tells a user how to choose alpha.
struct TopHReport {
  double entropy_all = 0;   // H(p) in nats, whole vocabulary
  double entropy_kept = 0;  // H(q), q = the kept tokens renormalised
  double mass = 0;          // share of the candidates' probability that is kept
  size_t kept = 0;
};

// Keeps the longest prefix that satisfies the rule, at least one token. alpha <= 0 keeps all. In mode kPaper H(p) comes
// from the whole row even when other samplers removed tokens before, so that the promise H(kept) <= alpha H(predicted)
// always holds; a distribution with H(p) < 1e-6 keeps its arg-max.
TopHReport keep_top_h(Candidates& c, double alpha, TopHMode mode);

}  // namespace fettle::decoding
