#include <algorithm>
#include <functional>

#include "text/jinja/characters.h"
#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/number_format.h"
#include "text/jinja/operators.h"
#include "text/jinja/printing.h"
#include "text/jinja/python_format.h"

namespace fettle::text::jinja {
namespace {

using Getter = std::function<Value(const Value&)>;

Value lower_case(Runtime& rt, const Value& value) {
  return value.is_string() ? rt.text(map_runs(rt, value.text(), to_lower)) : value;
}

// item -> item.a.0.b for the path "a.0.b" or an integer; `fallback` replaces missing parts when given.
Getter attribute_getter(Runtime& rt, const Value& path, const Value* fallback = nullptr) {
  std::vector<Value> parts;
  if (path.is_string()) {
    const std::string& text = path.bytes();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t dot = std::min(text.find('.', begin), text.size());
      const std::string part = text.substr(begin, dot - begin);
      const bool digits =
          !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
      const auto index = digits ? parse_integer(part, 10) : std::nullopt;
      parts.push_back(index ? Value(*index) : rt.text(part));
      begin = dot + 1;
    }
  } else if (!path.is_none()) {
    parts.push_back(path);
  }
  const bool has_fallback = fallback && !fallback->is_none();
  return [&rt, parts, has_fallback, replacement = has_fallback ? *fallback : Value()](const Value& item) {
    Value value = item;
    for (const Value& part : parts) {
      rt.step();
      value = get_item(rt, value, part);
      if (has_fallback && value.is_undefined()) value = replacement;
    }
    return value;
  };
}

// The key of sort, unique, min, max and groupby: an attribute, lower-cased unless case_sensitive.
Getter key_getter(Runtime& rt, const Value* attribute, bool case_sensitive, const Value* fallback = nullptr) {
  Getter get = attribute_getter(rt, attribute ? *attribute : Value(), fallback);
  if (case_sensitive) return get;
  return [&rt, get](const Value& item) { return lower_case(rt, get(item)); };
}

std::vector<Value> sort_by(Runtime& rt, const std::vector<Value>& items, const Getter& key, bool reverse) {
  std::vector<std::pair<Value, size_t>> keyed;
  keyed.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) keyed.emplace_back(key(items[i]), i);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less_than(rt, b.first, a.first) : less_than(rt, a.first, b.first);
  });
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const auto& entry : keyed) sorted.push_back(items[entry.second]);
  return sorted;
}

Value first(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "first", args, {});
  if (input.is_object(ObjectType::kGenerator)) {
    Sequence& generator = input.sequence();
    if (generator.consumed < generator.items.size()) return generator.items[generator.consumed++];
    return Value::undefined("No first item, sequence was empty.");
  }
  if (input.is_string() && !input.text().empty()) return get_item(rt, input, Value(0));
  const std::vector<Value> items = elements(rt, input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "last", args, {});
  if (input.is_object(ObjectType::kGenerator)) rt.error("'generator' object is not reversible");
  if (input.is_string() && !input.text().empty()) return get_item(rt, input, Value(-1));
  const std::vector<Value> items = elements(rt, input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value list(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "list", args, {});
  return rt.list(elements(rt, input));
}

Value join(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "join", args, {"d", "attribute"});
  const MarkedText separator = p.get(0) ? to_text(rt, p[0]) : MarkedText();
  const Getter get = attribute_getter(rt, p.get(1) ? p[1] : Value());
  MarkedText out;
  bool is_first = true;
  for (const Value& item : elements(rt, input)) {
    if (!is_first) out.append(separator);
    is_first = false;
    out.append(to_text(rt, get(item)));
    rt.step();
    rt.check_text_size(out.size());
  }
  return rt.text(std::move(out));
}

Value reverse(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "reverse", args, {});
  if (input.is_string()) return get_slice(rt, input, Value(), Value(), Value(-1));
  std::vector<Value> items = elements(rt, input);
  std::reverse(items.begin(), items.end());
  return rt.generator(std::move(items));
}

Value sort(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = p.flag(1, false);
  std::vector<Value> attributes = {p.get(2) ? p[2] : Value()};  // "a,b" sorts by a, then b
  if (attributes[0].is_string())
    attributes = elements(rt, find_string_method("split")(rt, attributes[0], Args{{rt.text(",")}, {}}));
  std::vector<Getter> getters;
  for (const Value& name : attributes) getters.push_back(key_getter(rt, &name, case_sensitive));
  const Getter keys = [&](const Value& item) {
    std::vector<Value> parts;
    for (const Getter& get : getters) parts.push_back(get(item));
    return rt.list(std::move(parts));
  };
  return rt.list(sort_by(rt, elements(rt, input), keys, p.flag(0, false)));
}

Value unique(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "unique", args, {"case_sensitive", "attribute"});
  const Getter get = key_getter(rt, p.get(1), p.flag(0, false));
  Dict& seen = rt.new_dict();
  std::vector<Value> out;
  for (const Value& item : elements(rt, input)) {
    const Value key = get(item);
    if (!is_hashable(key)) rt.error("unhashable type: '{}'", key.type_name());
    if (seen.find(key)) continue;
    rt.dict_set(seen, key, Value());
    out.push_back(item);
  }
  return rt.generator(std::move(out));
}

Value extreme(Runtime& rt, const Value& input, const Args& args, const char* name, bool want_max) {
  const Parameters p(rt, name, args, {"case_sensitive", "attribute"});
  const Getter get = key_getter(rt, p.get(1), p.flag(0, false));
  const std::vector<Value> items = elements(rt, input);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  Value best_key = get(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = get(items[i]);
    if (want_max ? !less_than(rt, best_key, key) : !less_than(rt, key, best_key)) continue;
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}
Value min_filter(Runtime& rt, const Value& input, const Args& args) { return extreme(rt, input, args, "min", false); }
Value max_filter(Runtime& rt, const Value& input, const Args& args) { return extreme(rt, input, args, "max", true); }

Value sum(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "sum", args, {"attribute", "start"});
  const Getter get = attribute_getter(rt, p.get(0) ? *p.get(0) : Value());
  Value total = p.get(1) ? p[1] : Value(0);
  if (total.is_string()) rt.error("sum() can't sum strings");
  for (const Value& item : elements(rt, input)) total = arithmetic(rt, BinaryOp::kAdd, total, get(item));
  return total;
}

Value map(Runtime& rt, const Value& input, const Args& args) {
  if (!truthy(input)) return rt.generator({});
  std::vector<Value> out;
  if (args.positional.empty()) {
    const Parameters p(rt, "map", args, {"attribute", "default"});
    if (!p.get(0)) rt.error("map requires a filter name or an attribute");
    const Getter get = attribute_getter(rt, p[0], p.get(1));
    for (const Value& item : elements(rt, input)) out.push_back(get(item));
    return rt.generator(std::move(out));
  }
  if (!args.positional[0].is_string()) rt.error("map: the filter name must be a string");
  const FilterFn filter = find_filter(args.positional[0].bytes());
  if (!filter) rt.error("no filter named '{}'", printable(args.positional[0].bytes(), 80));
  const Args rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  for (const Value& item : elements(rt, input)) {
    rt.step();
    out.push_back(filter(rt, item, rest));
  }
  return rt.generator(std::move(out));
}

// select, reject and their attr forms: items whose (attribute's) test result equals `keep`.
Value filter_items(Runtime& rt, const Value& input, const Args& args, bool by_attribute, bool keep) {
  if (!truthy(input)) return rt.generator({});
  const size_t used = by_attribute ? 1 : 0;
  if (args.positional.size() < used) rt.error("missing parameter for attribute name");
  const Getter get = attribute_getter(rt, by_attribute ? args.positional[0] : Value());
  TestFn test = nullptr;
  Args rest{{}, args.named};
  if (args.positional.size() > used) {
    const Value& name = args.positional[used];
    if (name.is_string()) test = find_test(name.bytes());
    if (!test) rt.error("no test named '{}'", printable(to_text(rt, name).bytes(), 80));
    rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(used) + 1, args.positional.end());
  }
  std::vector<Value> out;
  for (const Value& item : elements(rt, input)) {
    rt.step();
    const Value subject = get(item);
    if ((test ? test(rt, subject, rest) : truthy(subject)) == keep) out.push_back(item);
  }
  return rt.generator(std::move(out));
}
Value select(Runtime& rt, const Value& input, const Args& args) { return filter_items(rt, input, args, false, true); }
Value reject(Runtime& rt, const Value& input, const Args& args) { return filter_items(rt, input, args, false, false); }
Value selectattr(Runtime& rt, const Value& input, const Args& args) {
  return filter_items(rt, input, args, true, true);
}
Value rejectattr(Runtime& rt, const Value& input, const Args& args) {
  return filter_items(rt, input, args, true, false);
}

Value items_filter(Runtime& rt, const Value& input, const Args& args) {
  const Parameters none(rt, "items", args, {});
  if (input.is_undefined()) return rt.generator({});
  if (!input.is_dict()) rt.error("can only get item pairs from a mapping, not {}", input.type_name());
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict().entries()) pairs.push_back(rt.tuple({key, value}));
  return rt.generator(std::move(pairs));
}

Value dictsort(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "dictsort", args, {"case_sensitive", "by", "reverse"});
  if (input.is_undefined()) rt.undefined_error(input);
  if (!input.is_dict()) rt.error("dictsort expects a dict, not {}", input.type_name());
  const std::string by = p.get(1) ? p.text(1).bytes() : "key";
  if (by != "key" && by != "value") rt.error("you can only sort by either \"key\" or \"value\"");
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict().entries()) pairs.push_back(rt.tuple({key, value}));
  const Value part(by == "key" ? 0 : 1);
  return rt.list(sort_by(rt, pairs, key_getter(rt, &part, p.flag(0, false)), p.flag(2, false)));
}

Value groupby(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const Getter key = key_getter(rt, p.get(0), p.flag(2, false), p.get(1));
  const Getter original = attribute_getter(rt, p[0], p.get(1));
  std::vector<Value> groups;
  std::vector<Value> members;
  Value group_key;
  const auto finish = [&] {
    if (members.empty()) return;
    Value group = rt.tuple({original(members.front()), rt.list(std::move(members))});
    group.sequence().is_group = true;
    groups.push_back(std::move(group));
    members.clear();
  };
  for (const Value& item : sort_by(rt, elements(rt, input), key, false)) {
    Value item_key = key(item);
    if (members.empty() || !equals(rt, item_key, group_key)) {
      finish();
      group_key = std::move(item_key);
    }
    members.push_back(item);
  }
  finish();
  return rt.list(std::move(groups));
}

Value batch(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = p.integer(0, 1);
  const std::vector<Value> items = elements(rt, input);
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : items) {
    if (static_cast<int64_t>(row.size()) == size) rows.push_back(rt.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (p.has(1) && size > static_cast<int64_t>(row.size())) {
      const auto missing = static_cast<size_t>(size) - row.size();
      rt.step_elements(missing);
      if (missing > rt.options().limits.range_length) rt.error("batch: rows of {} elements are too long", size);
      row.resize(row.size() + missing, p[1]);
    }
    rows.push_back(rt.list(std::move(row)));
  }
  return rt.generator(std::move(rows));
}

Value slice(Runtime& rt, const Value& input, const Args& args) {
  const Parameters p(rt, "slice", args, {"slices", "fill_with"}, 1);
  const int64_t slices = p.integer(0, 1);
  if (slices <= 0) rt.error("slice: the number of slices must be positive");
  if (slices > static_cast<int64_t>(rt.options().limits.range_length))
    rt.error("slice: {} slices are too many", slices);
  const std::vector<Value> items = elements(rt, input);
  const size_t count = static_cast<size_t>(slices);
  const size_t per_slice = items.size() / count;
  const size_t longer = items.size() % count;
  std::vector<Value> out;
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t size = per_slice + (i < longer ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<std::ptrdiff_t>(at),
                            items.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
    if (p.has(1) && i >= longer) part.push_back(p[1]);
    out.push_back(rt.list(std::move(part)));
  }
  return rt.generator(std::move(out));
}

constexpr NamedFilter kFilters[] = {
    {"batch", batch},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"list", list},
    {"map", map},
    {"max", max_filter},
    {"min", min_filter},
    {"reject", reject},
    {"rejectattr", rejectattr},
    {"reverse", reverse},
    {"select", select},
    {"selectattr", selectattr},
    {"slice", slice},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

FilterTable sequence_filters() { return {std::begin(kFilters), std::end(kFilters)}; }

}  // namespace fettle::text::jinja
