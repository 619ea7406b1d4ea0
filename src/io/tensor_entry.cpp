#include "io/tensor_entry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace fettle::io {

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::string TensorEntry::describe() const { return fmt::format("{} {}", type, shape_text(shape)); }

}  // namespace fettle::io
