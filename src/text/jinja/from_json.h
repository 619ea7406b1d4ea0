#pragma once

#include "base/json.h"
#include "text/jinja/runtime.h"

namespace fettle::text::jinja {

// Builds a value from JSON; its strings, keys included, count as input when from_input.
Value from_json(Runtime& rt, const Json& json, bool from_input);

}  // namespace fettle::text::jinja
