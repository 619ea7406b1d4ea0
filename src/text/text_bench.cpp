// Tokenizer speed. Arguments name tokenizers by environment: FETTLE_BENCH_TOKENIZER = folder, default the test model.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "base/random.h"
#include "text/regex.h"
#include "text/scanners.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

std::shared_ptr<const Tokenizer> tokenizer() {
  const char* dir = std::getenv("FETTLE_BENCH_TOKENIZER");
  static const auto instance = load_tokenizer_json(dir ? dir : FETTLE_TEST_DATA "/models/stories260K");
  return instance;
}

// English-like text: words of Zipf-distributed frequency.
std::string make_text(size_t bytes) {
  Random random(9);
  std::vector<std::string> words(2000);
  for (std::string& w : words)
    for (uint64_t n = 1 + random.below(9); n > 0; --n) w += static_cast<char>('a' + random.below(26));
  std::string text;
  while (text.size() < bytes) {
    const double u = random.uniform();
    text += words[static_cast<size_t>(2000 * u * u * u)];
    text += random.below(12) == 0 ? ".\n" : " ";
  }
  return text;
}

void encode_text(benchmark::State& state) {
  const auto t = tokenizer();
  const std::string text = make_text(1 << 20);
  size_t tokens = 0;
  for (auto _ : state) tokens = t->encode(text).size();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["tokens"] = static_cast<double>(tokens);
}
BENCHMARK(encode_text)->Unit(benchmark::kMillisecond);

void encode_one_word(benchmark::State& state) {
  const auto t = tokenizer();
  Random random(4);
  std::string text(1'000'000, 'a');
  if (state.range(0))
    for (char& c : text) c = static_cast<char>('a' + random.below(26));
  for (auto _ : state) benchmark::DoNotOptimize(t->encode(text).size());
}
BENCHMARK(encode_one_word)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void decode_stream(benchmark::State& state) {
  const auto t = tokenizer();
  const auto ids = t->encode(make_text(1 << 18));
  for (auto _ : state) {
    StreamDecoder stream(*t, true);
    size_t bytes = 0;
    for (TokenId id : ids) bytes += stream.push(id).size();
    benchmark::DoNotOptimize(bytes + stream.flush().size());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}
BENCHMARK(decode_stream)->Unit(benchmark::kMillisecond);

void split_known_pattern(benchmark::State& state) {
  const auto pattern = static_cast<KnownPattern>(state.range(0));
  const std::string text = make_text(1 << 20);
  for (auto _ : state) {
    size_t pieces = 0;
    for (size_t at = 0; at < text.size(); ++pieces) at = next_piece_end(pattern, text, at);
    benchmark::DoNotOptimize(pieces);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(split_known_pattern)->DenseRange(0, 5)->Unit(benchmark::kMillisecond);

void split_regex(benchmark::State& state) {
  const Regex regex(pattern_text(static_cast<KnownPattern>(state.range(0))), "bench");
  const std::string text = make_text(1 << 20);
  for (auto _ : state) benchmark::DoNotOptimize(regex.find_all(text).size());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(split_regex)->DenseRange(0, 5)->Unit(benchmark::kMillisecond);

void load(benchmark::State& state) {
  const std::string path = tokenizer()->source();
  for (auto _ : state) benchmark::DoNotOptimize(load_tokenizer_json(path));
}
BENCHMARK(load)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fettle::text
