#include "text/jinja/runtime.h"

#include "text/jinja/operators.h"

namespace fettle::text::jinja {

void Runtime::fail_steps() const {
  fail(ErrorCode::kResource, "{}: line {}: template needs more than {} steps", name_, line_, options_.limits.steps);
}

void Runtime::check_text_size(size_t bytes) const {
  if (bytes > options_.limits.output_bytes)
    fail(ErrorCode::kResource, "{}: line {}: template makes a text of {} bytes, the limit is {}", name_, line_, bytes,
         options_.limits.output_bytes);
}

void Runtime::grow(size_t bytes) {
  live_bytes_ += bytes;
  if (live_bytes_ > options_.limits.memory_bytes)
    fail(ErrorCode::kResource, "{}: line {}: template needs more than {} bytes of memory", name_, line_,
         options_.limits.memory_bytes);
}

Value Runtime::text(MarkedText text) {
  const size_t bytes = text.size() + sizeof(MarkedText) + kObjectOverhead;
  check_text_size(text.size());
  step_bytes(text.size());
  grow(bytes);
  const auto give_back = [this, bytes](const MarkedText* dead) {
    live_bytes_ -= bytes;
    delete dead;
  };
  return Value(Value::Text(new MarkedText(std::move(text)), give_back));
}

Value Runtime::sequence(ObjectType type, std::vector<Value> items) {
  step_elements(items.size());
  grow(items.size() * sizeof(Value));
  return Value(&make<Sequence>(type, std::move(items)));
}

Dict& Runtime::new_dict(ObjectType type) { return make<Dict>(type); }

Value Runtime::function(std::string name, Function::Body body) {
  return Value(&make<Function>(std::move(name), std::move(body)));
}

void Runtime::dict_set(Dict& dict, const Value& key, Value value) {
  if (!is_hashable(key)) error("unhashable type: '{}'", key.type_name());
  grow(sizeof(Dict::Entry) * 2);  // entry and index
  step();
  dict.set(key, std::move(value));
}

void Runtime::raise_error(const std::string& message) const {
  fail(ErrorCode::kInput, "{}: line {}: {}", name_, line_, printable(message, 1000));
}

void Runtime::raise_exception(const std::string& message) const {
  throw TemplateException(fmt::format("{}: line {}: {}", name_, line_, printable(message, 1000)), message);
}

Parameters::Parameters(Runtime& rt, std::string_view function, const Args& args,
                       std::initializer_list<std::string_view> names, size_t required)
    : rt_(rt), function_(function), names_(names), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size())
    rt.error("{}() takes at most {} arguments, {} given", function, names.size(), args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < names_.size() && names_[i] != name) ++i;
    if (i == names_.size()) rt.error("{}() got an unexpected keyword argument '{}'", function, name);
    if (values_[i]) rt.error("{}() got multiple values for argument '{}'", function, name);
    values_[i] = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!values_[i]) rt.error("{}() misses its argument '{}'", function, names_[i]);
}

bool Parameters::flag(size_t i, bool fallback) const { return values_[i] ? truthy(*values_[i]) : fallback; }

int64_t Parameters::integer(size_t i, int64_t fallback) const {
  if (!values_[i]) return fallback;
  const Value& value = *values_[i];
  if (!value.is_integral()) rt_.error("{}(): '{}' must be an integer, not {}", function_, names_[i], value.type_name());
  const Int wide = value.integer();
  if (wide < INT64_MIN || wide > INT64_MAX) rt_.error("{}(): '{}' is out of range", function_, names_[i]);
  return static_cast<int64_t>(wide);
}

const MarkedText& Parameters::text(size_t i) const {
  if (!values_[i]->is_string())
    rt_.error("{}(): '{}' must be a string, not {}", function_, names_[i], values_[i]->type_name());
  return values_[i]->text();
}

}  // namespace fettle::text::jinja
