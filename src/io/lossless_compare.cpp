#include "io/lossless_compare.h"

#include <cstring>
#include <functional>
#include <map>

#include "base/error.h"
#include "io/df11_layout.h"
#include "io/linear_loader.h"
#include "tensor/formats/fx3.h"

namespace fettle::io {
namespace {

// A tensor as the model sees it.
struct Logical {
  std::string type;
  std::vector<int64_t> shape;
  bool flat = false;  // shape is only the number of elements
  std::function<Tensor()> read;

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
  std::string describe() const { return fmt::format("{} {}", type, shape_text(shape)); }
};

class Checkpoint {
 public:
  Checkpoint(const ModelFiles& files, ThreadPool& pool) : source_(TensorSource::open(files)), pool_(pool) {
    if (files.kind == ModelFiles::Kind::kHuggingFace) config_ = read_quant_config(files, read_config(files));
    for (const TensorEntry* entry : source_.entries()) {
      if (entry->name.ends_with(".encoded_exponent")) add_unit(entry->name.substr(0, entry->name.rfind('.')));
      if (entry->name.ends_with(".fx3_codes")) add_fx3(entry->name.substr(0, entry->name.rfind('.')));
    }
    for (const TensorEntry* entry : source_.entries())
      if (!parts_.contains(entry->name))
        tensors_[entry->name] = {entry->type, entry->shape, false, [this, entry] { return source_.get(entry->name); }};
  }
  const std::map<std::string, Logical>& tensors() const { return tensors_; }
  const std::string& path() const { return source_.path(); }

 private:
  void add_unit(const std::string& unit) {
    for (const Df11Pattern& p : config_.df11_patterns()) {
      if (!p.unit.matches(unit, "")) continue;
      const size_t count = std::max<size_t>(1, p.modules.size());
      const std::vector<int64_t> sizes = df11_sizes(source_, {unit, 0, count});
      for (size_t i = 0; i < count; ++i) {
        const std::string module = p.modules.empty() ? unit : unit + "." + p.modules[i];
        const Df11Place place{unit, i, count};
        tensors_[module + ".weight"] = {
            "BF16", {sizes[i]}, true, [this, place] { return read_df11_words(source_, place, &pool_); }};
      }
      for (std::string& name : df11_tensor_names(source_, unit)) parts_[std::move(name)] = true;
      return;
    }
  }

  void add_fx3(const std::string& module) {
    if (config_.method() != QuantMethod::kFx3 || !source_.has(module + ".fx3_shape")) return;
    const Tensor shape = source_.get(module + ".fx3_shape").copy();
    if (shape.dtype() != DType::kI64 || shape.numel() != 2)
      fail(ErrorCode::kInput, "{}: tensor \"{}.fx3_shape\": expected I64 [2], found {}", source_.path(),
           printable(module), shape.describe());
    const int64_t rows = shape.data<int64_t>()[0], cols = shape.data<int64_t>()[1];
    tensors_[module + ".weight"] = {"BF16", {rows, cols}, false, [this, module, rows, cols] {
                                      return formats::fx3_to_bf16(load_linear(source_, config_, module, rows, cols),
                                                                  &pool_);
                                    }};
    for (std::string& name : linear_tensor_names(source_, module)) parts_[std::move(name)] = true;
  }

  TensorSource source_;
  QuantConfig config_;
  ThreadPool& pool_;
  std::map<std::string, Logical> tensors_;
  std::map<std::string, bool> parts_;  // stored tensors that make up logical ones
};

// Why the tensors differ, or "".
std::string difference(const Logical& a, const Logical& b) {
  const bool same_shape = a.flat || b.flat ? a.elements() == b.elements() : a.shape == b.shape;
  if (a.type != b.type || !same_shape) return fmt::format("{} against {}", a.describe(), b.describe());
  const Tensor x = a.read(), y = b.read();
  if (x.nbytes() != y.nbytes()) return fmt::format("{} against {} bytes", x.nbytes(), y.nbytes());
  if (x.nbytes() == 0 || std::memcmp(x.bytes().data(), y.bytes().data(), x.nbytes()) == 0) return {};
  const size_t element = dtype_bytes(x.dtype());
  size_t count = 0, first = 0;
  for (size_t i = 0; i < x.nbytes(); i += element)
    if (std::memcmp(x.bytes().data() + i, y.bytes().data() + i, element) != 0 && count++ == 0) first = i / element;
  return fmt::format("{} elements differ, the first one is element {}", count, first);
}

}  // namespace

BitComparison compare_bits(const ModelFiles& a, const ModelFiles& b, ThreadPool& pool, const CancelToken* cancel) {
  const Checkpoint left(a, pool), right(b, pool);
  BitComparison out;
  for (const auto& [name, tensor] : left.tensors()) {
    check_cancel(cancel);
    const auto other = right.tensors().find(name);
    if (other == right.tensors().end()) {
      out.differences.push_back(fmt::format("{}: only in {}", printable(name), left.path()));
      continue;
    }
    if (std::string problem = difference(tensor, other->second); !problem.empty()) {
      out.differences.push_back(fmt::format("{}: {}", printable(name), problem));
      continue;
    }
    ++out.tensors;
    const std::optional<DType> dtype = parse_dtype(tensor.type);
    out.bytes += static_cast<uint64_t>(tensor.elements()) * (dtype ? dtype_bytes(*dtype) : 1);
  }
  for (const auto& [name, tensor] : right.tensors())
    if (!left.tensors().contains(name))
      out.differences.push_back(fmt::format("{}: only in {}", printable(name), right.path()));
  return out;
}

}  // namespace fettle::io
