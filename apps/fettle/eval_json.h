#pragma once

#include <string>

#include "base/json.h"
#include "eval/divergence.h"

// The stable keys of `eval --json` and the text of the same figures.
namespace fettle::cli {

Json ppl_json(const std::string& model, const eval::PplResult& result);
Json kl_json(const std::string& model, const std::string& reference, const eval::KlResult& result);
std::string ppl_text(const eval::PplResult& result);
std::string kl_text(const eval::KlResult& result);

}  // namespace fettle::cli
