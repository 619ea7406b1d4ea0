#include "eval/speed.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "base/cpu.h"
#include "base/random.h"
#include "engine/llm.h"
#include "eval/statistics.h"
#include "models/model.h"

namespace fettle::eval {
namespace {

bool is_embedding(const models::TensorSummary& t) { return t.name == "model.embed_tokens.weight"; }
bool is_expert(const models::TensorSummary& t) { return t.name.find(".experts.") != std::string::npos; }

// Sums a figure over the tensors that one token touches. MODEL tensors carry their names as stored.
template <typename Figure>
double active_sum(const models::Model& model, Figure&& figure) {
  const models::ModelConfig& c = model.config();
  const bool has_head = std::any_of(model.tensors().begin(), model.tensors().end(),
                                    [](const models::TensorSummary& t) { return t.name == "lm_head.weight"; });
  double sum = 0;
  for (const models::TensorSummary& t : model.tensors()) {
    if (is_embedding(t) && has_head) continue;
    double share = 1;
    if (is_expert(t) && c.num_experts > 0)
      share = static_cast<double>(c.num_experts_per_tok) / static_cast<double>(c.num_experts);
    sum += share * figure(t);
  }
  return sum;
}

// Value in kB of a line such as "VmRSS:	  1234 kB".
uint64_t status_kilobytes(std::string_view key) {
  // A file of /proc has no size to map or to read ahead, so it is read line by line.
  std::ifstream status("/proc/self/status");
  std::string text;
  while (std::getline(status, text) && !text.starts_with(key)) {
  }
  const size_t at = text.find(key);
  if (at == std::string::npos) return 0;
  const size_t digit = text.find_first_of("0123456789", at + key.size());
  uint64_t value = 0;
  if (digit != std::string::npos) std::from_chars(text.data() + digit, text.data() + text.size(), value);
  return value * 1024;
}

std::vector<int32_t> random_tokens(size_t n, size_t vocab) {
  Random random(1);
  std::vector<int32_t> tokens(n);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random.below(vocab));
  return tokens;
}

class Run {
 public:
  Run(const models::Model& model, const SpeedTest& test, size_t batch, ThreadPool& pool, const CancelToken* cancel)
      : test_(test),
        batch_(std::max<size_t>(batch, 1)),
        cancel_(cancel),
        tokens_(random_tokens(total(), static_cast<size_t>(model.config().vocab_size))),
        stream_(model, pool, total()) {}

  // Seconds of one repetition, depth not counted.
  double repeat() {
    stream_.reset();
    const std::span<const int32_t> all(tokens_);
    process(all.first(test_.depth), batch_);
    const auto start = std::chrono::steady_clock::now();
    process(all.subspan(test_.depth, test_.prompt), batch_);
    process(all.last(test_.generate), 1);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  size_t timed() const { return test_.prompt + test_.generate; }

 private:
  size_t total() const { return test_.depth + test_.prompt + test_.generate; }
  void process(std::span<const int32_t> tokens, size_t chunk) {
    for (size_t at = 0; at < tokens.size(); at += chunk) {
      check_cancel(cancel_);
      stream_.feed(tokens.subspan(at, std::min(chunk, tokens.size() - at)), models::LogitRows::kLast);
    }
  }
  SpeedTest test_;
  size_t batch_;
  const CancelToken* cancel_;
  std::vector<int32_t> tokens_;
  engine::LogitStream stream_;
};

}  // namespace

std::string SpeedTest::name() const {
  std::string out;
  if (prompt > 0) out += fmt::format("pp{}", prompt);
  if (generate > 0) out += fmt::format("{}tg{}", out.empty() ? "" : "+", generate);
  if (depth > 0) out += fmt::format(" @ d{}", depth);
  return out;
}

double decode_weight_bytes(const models::Model& model) {
  return active_sum(model, [](const models::TensorSummary& t) { return static_cast<double>(t.bytes); });
}

double active_parameters(const models::Model& model) {
  return active_sum(model, [](const models::TensorSummary& t) {
    double n = 1;
    for (const int64_t d : t.shape) n *= static_cast<double>(d);
    return n;
  });
}

namespace {

double head_parameters(const models::Model& model) {
  return static_cast<double>(model.config().vocab_size) * static_cast<double>(model.config().hidden_size);
}

}  // namespace

SpeedResult measure_speed(const models::Model& model, const SpeedTest& test, const SpeedOptions& options,
                          const MachineLimits& limits, ThreadPool& pool, const CancelToken* cancel) {
  if (test.prompt + test.generate == 0) fail(ErrorCode::kUsage, "bench: a test needs prompt or generated tokens");
  Run run(model, test, options.batch, pool, cancel);
  run.repeat();
  RunningStat rate;
  SpeedResult result{.test = test};
  double spent = 0;
  for (size_t i = 0; i < std::max<size_t>(options.repetitions, 1); ++i) {
    if (i > 0 && options.max_seconds > 0 && spent > options.max_seconds) break;
    const double seconds = run.repeat();
    spent += seconds;
    result.samples_tokens_per_s.push_back(static_cast<double>(run.timed()) / seconds);
    rate.add(result.samples_tokens_per_s.back());
  }
  result.tokens_per_s = rate.mean();
  result.stddev = rate.sample_stddev();
  const double unused_head = test.generate == 0 ? head_parameters(model) : 0;
  result.flops_per_s = 2 * (active_parameters(model) - unused_head) * rate.mean();
  if (test.prompt == 0) {
    const kv::KvLayout layout = model.kv_layout(DType::kBF16);
    const double cache_tokens = static_cast<double>(test.depth) + 0.5 * static_cast<double>(test.generate);
    result.bytes_per_s =
        (decode_weight_bytes(model) + cache_tokens * static_cast<double>(layout.bytes_per_token())) * rate.mean();
    if (limits.read_bytes_per_s > 0) result.limit_fraction = result.bytes_per_s / limits.read_bytes_per_s;
  } else {
    const double passes =
        static_cast<double>((test.prompt + options.batch - 1) / std::max<size_t>(options.batch, 1) + test.generate);
    result.bytes_per_s = decode_weight_bytes(model) * passes * rate.mean() / static_cast<double>(run.timed());
    if (test.generate == 0 && limits.flops_per_s > 0) result.limit_fraction = result.flops_per_s / limits.flops_per_s;
  }
  return result;
}

std::vector<size_t> parse_size_list(std::string_view text, std::string_view option) {
  const auto bad = [&]() {
    fail(ErrorCode::kUsage, "{}: expected numbers such as 512 or 128,256 or 0-1024+256 or 64-512*2, found '{}'", option,
         printable(text));
  };
  const auto number = [&](std::string_view digits) {
    size_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value > size_t{1} << 30) bad();
    return value;
  };
  std::vector<size_t> values;
  for (std::string_view rest = text; !rest.empty() || values.empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const size_t dash = item.find('-');
    if (dash == std::string_view::npos) {
      values.push_back(number(item));
      continue;
    }
    const size_t step = item.find_first_of("+*", dash);
    const size_t first = number(item.substr(0, dash));
    const size_t last = number(item.substr(dash + 1, step == std::string_view::npos ? step : step - dash - 1));
    const bool multiply = step != std::string_view::npos && item[step] == '*';
    const size_t by = step == std::string_view::npos ? 1 : number(item.substr(step + 1));
    if (last < first || by == 0 || (multiply && (by < 2 || first == 0))) bad();
    for (size_t v = first; v <= last; v = multiply ? v * by : v + by) {
      if (values.size() == 1000) bad();
      values.push_back(v);
    }
  }
  return values;
}

uint64_t resident_bytes() { return status_kilobytes("VmRSS:"); }
uint64_t peak_resident_bytes() { return status_kilobytes("VmHWM:"); }

double load_per_cpu() {
  double load[1];
  return ::getloadavg(load, 1) == 1 ? load[0] / available_cpus() : 0;
}

}  // namespace fettle::eval
