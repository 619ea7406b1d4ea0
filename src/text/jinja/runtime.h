#pragma once

#include <fmt/format.h>

#include <ctime>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/jinja/value.h"

namespace fettle::text::jinja {

// Limits of one render (defaults: reliability rules for chat templates). Exceeding one is kResource.
struct Limits {
  uint64_t steps = 2'000'000;               // evaluated nodes, elements and blocks of text; stands for one second
  size_t output_bytes = size_t{8} << 20;    // of the result, and of any string on the way to it
  size_t memory_bytes = size_t{192} << 20;  // strings alive plus containers ever made
  int call_depth = 64;                      // macros, callers and recursive loops inside one another
  int tree_depth = 2'000;                   // nested evaluation over all calls: bounds the machine stack
  size_t range_length = 100'000;
};

enum class Sandbox {
  kStrict,   // list.append and its like are refused, as in the reference implementation
  kLenient,  // they work: some published templates use them
};

struct Options {
  Sandbox sandbox = Sandbox::kLenient;
  std::function<std::tm()> now;  // for strftime_now; local time when empty
  Limits limits;
};

// Raised by raise_exception(message) in a template. what() names template and line, message() is the text alone.
class TemplateException : public Error {
 public:
  TemplateException(const std::string& what, std::string message)
      : Error(ErrorCode::kInput, what), message_(std::move(message)) {}
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

// What values, filters and methods need from the render they run in: accounting, allocation, errors, calls. One thread.
class Runtime {
 public:
  Runtime(std::string template_name, const Options& options) : options_(options), name_(std::move(template_name)) {}
  virtual ~Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Options& options() const { return options_; }

  // Accounting.
  void step(uint64_t count = 1) {
    steps_ += count;
    if (steps_ > options_.limits.steps) [[unlikely]]
      fail_steps();
  }
  void step_bytes(size_t bytes) { step(1 + bytes / 1024); }   // copying or searching text
  void step_mapping(size_t bytes) { step(1 + bytes / 64); }   // work per character
  void step_elements(size_t count) { step(1 + count / 16); }  // copying values
  void check_text_size(size_t bytes) const;                   // kResource above output_bytes
  uint64_t steps() const { return steps_; }

  // Allocation; what is made lives until the render ends.
  Value text(MarkedText text);
  Value text(std::string bytes, bool from_input = false) {
    return this->text(MarkedText(std::move(bytes), from_input));
  }
  Value sequence(ObjectType type, std::vector<Value> items);
  Value list(std::vector<Value> items) { return sequence(ObjectType::kList, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(ObjectType::kTuple, std::move(items)); }
  Value generator(std::vector<Value> items) { return sequence(ObjectType::kGenerator, std::move(items)); }
  Dict& new_dict(ObjectType type = ObjectType::kDict);
  Value function(std::string name, Function::Body body);
  template <typename T, typename... A>
  T& make(A&&... args) {
    grow(sizeof(T) + kObjectOverhead);
    auto object = std::make_unique<T>(std::forward<A>(args)...);
    T& made = *object;
    objects_.push_back(std::move(object));
    return made;
  }
  void grow(size_t bytes);  // containers growing after they were made
  void shrink(size_t bytes) { live_bytes_ -= bytes; }
  void dict_set(Dict& dict, const Value& key, Value value);  // checks the key, accounts

  // kInput "name: line N: message".
  template <typename... A>
  [[noreturn]] void error(fmt::format_string<A...> format, A&&... args) const {
    raise_error(fmt::format(format, std::forward<A>(args)...));
  }
  [[noreturn]] void raise_error(const std::string& message) const;
  [[noreturn]] void undefined_error(const Value& value) const { raise_error(value.undefined_reason()); }
  [[noreturn]] void raise_exception(const std::string& message) const;
  void set_line(int line) { line_ = line; }
  int line() const { return line_; }

  virtual Value call(const Value& callee, const Args& args) = 0;

 protected:
  static constexpr size_t kObjectOverhead = 32;  // allocation and list entry

 private:
  [[noreturn]] void fail_steps() const;

  const Options options_;
  const std::string name_;
  int line_ = 1;
  uint64_t steps_ = 0;
  size_t live_bytes_ = 0;
  std::vector<std::unique_ptr<Object>> objects_;  // after live_bytes_: the strings inside give their bytes back
};

// Arguments of a filter, test, method or function bound to parameter names by Python's rules. Throws for too many
// arguments, unknown names, double values and missing ones among the first `required`.
class Parameters {
 public:
  Parameters(Runtime& rt, std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
             size_t required = 0);

  const Value* get(size_t i) const { return values_[i]; }  // null when not given
  bool has(size_t i) const { return values_[i] && !values_[i]->is_none(); }
  const Value& operator[](size_t i) const { return *values_[i]; }  // given for sure
  bool flag(size_t i, bool fallback) const;
  int64_t integer(size_t i, int64_t fallback) const;
  const MarkedText& text(size_t i) const;  // must be a string

 private:
  Runtime& rt_;
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace fettle::text::jinja
