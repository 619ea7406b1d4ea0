#include <algorithm>

#include "base/checked.h"
#include "io/df11_layout.h"
#include "io/linear_parts.h"
#include "tensor/df11/unit.h"
#include "tensor/formats/fx3.h"

// DFloat11 units (LeanModels/DFloat11, specs of its package 0.5.0) and FX3 matrices: BF16 without loss.
namespace fettle::io {
namespace {

constexpr std::string_view kUnitTensors[] = {".luts", ".encoded_exponent", ".sign_mantissa", ".output_positions",
                                             ".gaps", ".split_positions"};

Tensor unit_tensor(const Parts& unit, std::string_view suffix, size_t rank) {
  const std::string name = unit.name(suffix);
  const TensorEntry& entry = unit.source().at(name);
  const DType dtype = suffix == ".split_positions" ? DType::kI64 : DType::kU8;
  if (entry.dtype != dtype || entry.shape.size() != rank || (rank == 2 && entry.shape[1] != 256))
    unit.refuse(suffix, fmt::format("expected {} with {}, found {}", dtype_name(dtype),
                                    rank == 2 ? "shape [pages + 1, 256]" : "one dimension", entry.describe()));
  const Tensor t = unit.source().get(name);
  return reinterpret_cast<uintptr_t>(t.bytes().data()) % dtype_bytes(dtype) == 0 ? t : t.copy();
}

std::span<const uint8_t> bytes_of(const Tensor& t) {
  return {reinterpret_cast<const uint8_t*>(t.bytes().data()), t.nbytes()};
}

}  // namespace

std::optional<Df11Place> find_df11(const TensorSource& source, const QuantConfig& config, std::string_view module) {
  for (const Df11Pattern& p : config.df11_patterns()) {
    if (p.modules.empty()) {
      if (p.unit.matches(module, "") && source.has(std::string(module) + ".encoded_exponent"))
        return Df11Place{std::string(module), 0, 1};
      continue;
    }
    for (size_t i = 0; i < p.modules.size(); ++i) {
      const std::string& part = p.modules[i];
      if (module.size() <= part.size() + 1 || !module.ends_with(part) || module[module.size() - part.size() - 1] != '.')
        continue;
      const std::string unit(module.substr(0, module.size() - part.size() - 1));
      if (!p.unit.matches(unit, "")) continue;
      // The first pattern that matches a unit decides, in the file's order.
      if (source.has(unit + ".encoded_exponent")) return Df11Place{unit, i, p.modules.size()};
    }
  }
  return std::nullopt;
}

std::vector<std::string> df11_tensor_names(const TensorSource& source, const std::string& unit) {
  std::vector<std::string> names;
  for (const std::string_view suffix : kUnitTensors)
    if (std::string name = unit + std::string(suffix); source.has(name)) names.push_back(std::move(name));
  return names;
}

std::vector<int64_t> df11_sizes(const TensorSource& source, const Df11Place& place) {
  const Parts unit(source, place.unit);
  const int64_t n = unit_tensor(unit, ".sign_mantissa", 1).numel();
  const Tensor splits = unit_tensor(unit, ".split_positions", 1);
  if (splits.numel() + 1 != static_cast<int64_t>(place.count))
    unit.refuse(".split_positions", fmt::format("expected {} entries for the {} matrices of the unit, found {}",
                                                place.count - 1, place.count, splits.numel()));
  std::vector<int64_t> sizes;
  int64_t before = 0;
  for (int64_t i = 0; i <= splits.numel(); ++i) {
    const int64_t at = i < splits.numel() ? splits.data<int64_t>()[i] : n;
    if (at < before || at > n)
      unit.refuse(".split_positions",
                  fmt::format("entry {}: expected a position from {} to {}, found {}", i, before, n, at));
    sizes.push_back(at - before);
    before = at;
  }
  return sizes;
}

Tensor read_df11_words(const TensorSource& source, const Df11Place& place, ThreadPool* pool) {
  const std::vector<int64_t> sizes = df11_sizes(source, place);
  int64_t begin = 0;
  for (size_t i = 0; i < place.index; ++i) begin += sizes[i];
  const Parts unit(source, place.unit);
  const Tensor luts = unit_tensor(unit, ".luts", 2), stream = unit_tensor(unit, ".encoded_exponent", 1),
               sm = unit_tensor(unit, ".sign_mantissa", 1), positions = unit_tensor(unit, ".output_positions", 1),
               gaps = unit_tensor(unit, ".gaps", 1);
  const df11::Decoder decoder({bytes_of(luts), bytes_of(stream), bytes_of(sm), bytes_of(positions), bytes_of(gaps)},
                              source.file_of(unit.name(".encoded_exponent")), place.unit);
  Tensor out = Tensor::empty(DType::kBF16, {sizes[place.index]});
  const auto at = static_cast<size_t>(begin);
  if (out.numel() > 0) decoder.decode(at, at + static_cast<size_t>(out.numel()), out.mutable_data<uint16_t>(), pool);
  return out;
}

PackedWeight read_df11(const TensorSource& source, const Df11Place& place, int64_t rows, int64_t cols,
                       ThreadPool* pool) {
  const std::vector<int64_t> sizes = df11_sizes(source, place);
  if (sizes[place.index] != rows * cols)
    Parts(source, place.unit)
        .refuse(place.count > 1 ? ".split_positions" : ".sign_mantissa",
                fmt::format("matrix {}: expected {} weights for [{}, {}], found {}", place.index, rows * cols, rows,
                            cols, sizes[place.index]));
  return dense_weight(read_df11_words(source, place, pool).reshaped({rows, cols}));
}

PackedWeight read_fx3(const Parts& parts, int64_t rows, int64_t cols) {
  const auto columns = static_cast<size_t>(cols);
  PackedWeight w;
  w.format = Format::kFx3;
  w.rows = rows;
  w.cols = cols;
  w.codes = parts.need(".fx3_codes", {DType::kU8},
                       {{rows, static_cast<int64_t>(formats::fx3_tiles(columns) * formats::kFx3TileBytes)}});
  w.high_tables = parts.need(".fx3_tables", {DType::kU8},
                             {{static_cast<int64_t>(formats::fx3_tables(static_cast<size_t>(rows))),
                               static_cast<int64_t>(formats::kFx3TableSize)}});
  const auto unsigned32 = [&](std::string_view suffix, int64_t n) {
    return reinterpret(parts.need(suffix, {DType::kU32, DType::kI32}, {{n}}), DType::kU32, {n});
  };
  w.exception_starts = unsigned32(".fx3_exception_starts", rows + 1);
  const TensorEntry& exceptions = parts.source().at(parts.name(".fx3_exception_highs"));
  const int64_t count = exceptions.shape.size() == 1 ? exceptions.shape[0] : 0;
  w.exception_highs = parts.need(".fx3_exception_highs", {DType::kU8}, {{count}});
  w.exception_cols = unsigned32(".fx3_exception_cols", count);
  if (const std::string problem = formats::fx3_problem(w, true); !problem.empty()) parts.refuse(".fx3_codes", problem);
  return w;
}

}  // namespace fettle::io
