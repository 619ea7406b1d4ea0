#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// The functions every template can call: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::optional<Value> find_global(Runtime& rt, std::string_view name);

// C's strftime in the C locale with Python's additions (%f), without time zones. Unknown conversions stay as they are.
std::string format_time(std::string_view format, const std::tm& time);

}  // namespace fettle::text::jinja
