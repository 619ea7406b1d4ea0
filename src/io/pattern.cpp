#include "io/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"

namespace fettle::io {
namespace {

constexpr size_t kMaxPatternBytes = 8 << 10;
constexpr uint32_t kMatchLimit = 1'000'000, kDepthLimit = 10'000, kHeapLimitKiB = 64 << 10;

// Iterative glob with `*` only; linear in practice, quadratic at worst.
bool glob(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

struct NamePattern::Regex {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  Regex() = default;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

NamePattern::NamePattern(std::string_view text, const std::string& source) : text_(text), source_(source) {
  if (text.size() > kMaxPatternBytes)
    fail(ErrorCode::kInput, "{}: pattern of {} bytes exceeds the limit of {}", source, text.size(), kMaxPatternBytes);
  if (!text.starts_with("re:")) return;
  const std::string_view body = text.substr(3);
  auto regex = std::make_shared<Regex>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  regex->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(body.data()), body.size(),
                              PCRE2_ANCHORED | PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (!regex->code) {
    PCRE2_UCHAR message[128] = {};
    pcre2_get_error_message(error, message, sizeof message);
    fail(ErrorCode::kInput, "{}: pattern \"{}\": {} at offset {}", source, printable(text),
         reinterpret_cast<char*>(message), offset);
  }
  regex->context = pcre2_match_context_create(nullptr);
  if (!regex->context) throw std::bad_alloc();
  pcre2_set_match_limit(regex->context, kMatchLimit);
  pcre2_set_depth_limit(regex->context, kDepthLimit);
  pcre2_set_heap_limit(regex->context, kHeapLimitKiB);
  regex_ = std::move(regex);
}

bool NamePattern::matches(std::string_view module, std::string_view class_name) const {
  if (!regex_) {
    if (text_ == module || text_ == class_name) return true;
    return text_.find('*') != std::string::npos && glob(text_, module);
  }
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create_from_pattern(regex_->code, nullptr), &pcre2_match_data_free);
  if (!match) throw std::bad_alloc();
  const int rc = pcre2_match(regex_->code, reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0, 0,
                             match.get(), regex_->context);
  if (rc >= 0) return true;
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  fail(ErrorCode::kInput, "{}: pattern \"{}\" exceeds its limits on \"{}\" (PCRE2 error {})", source_, printable(text_),
       printable(module), rc);
}

}  // namespace fettle::io
