#include "text/gguf_pre.h"

#include <array>

#include "text/scanners.h"

namespace fettle::text {
namespace {

constexpr std::string_view kDigit = R"(\p{N})";
// DeepSeek V3: numbers, then Chinese and Japanese, then the rest.
constexpr std::string_view kDeepSeekNumbers = R"(\p{N}{1,3})";
constexpr std::string_view kDeepSeekCjk = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kDeepSeekWords =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using Splits = std::span<const std::string_view>;

struct Table {
  std::array<std::string_view, 1> gpt2{pattern_text(KnownPattern::kGpt2)};
  std::array<std::string_view, 2> digits_gpt2{kDigit, pattern_text(KnownPattern::kGpt2)};
  std::array<std::string_view, 1> cl100k{pattern_text(KnownPattern::kCl100k)};
  std::array<std::string_view, 1> qwen2{pattern_text(KnownPattern::kQwen2)};
  std::array<std::string_view, 1> qwen35{pattern_text(KnownPattern::kQwen35)};
  std::array<std::string_view, 1> o200k{pattern_text(KnownPattern::kO200k)};
  std::array<std::string_view, 1> tekken{pattern_text(KnownPattern::kTekken)};
  std::array<std::string_view, 3> deepseek{kDeepSeekNumbers, kDeepSeekCjk, kDeepSeekWords};

  // The first entry with the wanted properties is the one that exports use.
  std::vector<GgufPre> rows{
      // name, splits, nfc, ignore_merges, add_bos
      {"gpt-2", gpt2, false, false, false},
      {"phi-2", gpt2, false, false, false},
      {"mpt", gpt2, false, false, false},
      {"olmo", gpt2, false, false, false},
      {"roberta-bpe", gpt2, false, false, false},
      {"smollm", digits_gpt2, false, false, false},
      {"refact", digits_gpt2, false, false, false},
      {"starcoder", digits_gpt2, false, false, false},
      {"command-r", digits_gpt2, false, false, false},
      {"codeshell", digits_gpt2, false, false, false},
      {"exaone", digits_gpt2, false, false, false},
      {"llama-bpe", cl100k, false, true, true},
      {"llama3", cl100k, false, true, true},
      {"llama-v3", cl100k, false, true, true},
      {"falcon3", cl100k, false, true, true},
      {"falcon-h1", cl100k, false, true, true},
      {"pixtral", cl100k, false, true, true},
      {"lfm2", cl100k, false, true, true},
      {"dbrx", cl100k, false, false, false},
      {"smaug-bpe", cl100k, false, false, false},
      {"qwen2", qwen2, true, false, false},
      {"deepseek-r1-qwen", qwen2, true, false, false},
      {"stablelm2", qwen2, false, false, false},
      {"qwen35", qwen35, true, false, false},
      {"gpt-4o", o200k, false, false, false},
      {"llama4", o200k, false, false, false},
      {"tekken", tekken, false, true, true},
      {"deepseek-v3", deepseek, false, false, false},
  };
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

std::span<const GgufPre> gguf_pre_table() { return table().rows; }

const GgufPre* find_gguf_pre(std::string_view name) {
  for (const GgufPre& row : table().rows)
    if (row.name == name) return &row;
  return nullptr;
}

std::unique_ptr<PreTokenizer> make_gguf_pre_tokenizer(const GgufPre& pre) {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  for (std::string_view pattern : pre.splits) {
    if (pattern == kDigit)
      steps.push_back(make_digits(true));
    else
      steps.push_back(make_regex_split(pattern, SplitBehavior::kIsolated, false, "tokenizer.ggml.pre"));
  }
  return make_sequence(std::move(steps));
}

}  // namespace fettle::text
