#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>

#include "base/error.h"
#include "base/utf8.h"

namespace fettle::text {
namespace {

constexpr size_t kMaxPattern = 8 << 10;
constexpr uint32_t kMatchLimit = 1'000'000, kDepthLimit = 10'000, kHeapLimitKib = 64 << 10;
constexpr size_t kJitStack = size_t{1} << 20;

// One per thread: contexts and the JIT stack are reused between calls.
struct Workspace {
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStack, nullptr);
  Workspace() {
    if (!context || !data || !stack) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_depth_limit(context, kDepthLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Workspace() {
    pcre2_jit_stack_free(stack);
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
};

std::string error_text(int code) {
  unsigned char buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

Regex::Regex(std::string_view pattern, std::string_view source) : source_(source) {
  if (pattern.size() > kMaxPattern)
    fail(ErrorCode::kInput, "{}: pattern of {} bytes exceeds the limit of {}", source, pattern.size(), kMaxPattern);
  const std::string translated = translate_oniguruma(pattern, source);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  // MULTILINE: ^ and $ always work on lines in Oniguruma.
  const uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), flags, &error, &offset,
                        context.get());
  if (!code_)
    fail(ErrorCode::kInput, "{}: pattern \"{}\": {} at byte {} of \"{}\"", source, printable(pattern),
         error_text(error), offset, printable(translated));
  // Without JIT support the interpreter runs the same program; the limits hold either way.
  pcre2_jit_compile(static_cast<pcre2_code*>(code_), PCRE2_JIT_COMPLETE);
}

Regex::~Regex() { pcre2_code_free(static_cast<pcre2_code*>(code_)); }

std::vector<Range> Regex::find_all(std::string_view text) const {
  static thread_local Workspace workspace;
  std::vector<Range> matches;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  bool any = false;
  size_t last_end = 0;
  for (size_t start = 0; start <= text.size();) {
    const int rc = pcre2_match(static_cast<pcre2_code*>(code_), subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                               workspace.data, workspace.context);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0)
      fail(ErrorCode::kResource, "{}: matching stopped at byte {} of {}: {}", source_, start, text.size(),
           error_text(rc));
    const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(workspace.data);
    const Range found{ovector[0], ovector[1]};
    if (found.end < found.begin) fail(ErrorCode::kInput, "{}: \\K in a lookahead is not supported", source_);
    const bool empty = found.begin == found.end;
    if (!(empty && any && found.begin == last_end)) {
      if (found.begin < last_end) fail(ErrorCode::kInput, "{}: pattern gives overlapping matches", source_);
      matches.push_back(found);
      any = true;
      last_end = found.end;
    }
    start = found.end;
    if (empty) start += start < text.size() ? utf8::decode(text, start).length : 1;
  }
  return matches;
}

}  // namespace fettle::text
