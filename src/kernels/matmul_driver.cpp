#include "kernels/matmul_driver.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/checked.h"
#include "kernels/elementwise.h"
#include "kernels/prepared.h"

namespace fettle::kernels {
namespace {

constexpr size_t kItemBytes = size_t{64} << 10;  // weight bytes per item: about 5 us of memory time, far above the
                                                 // cost of handing out an item
constexpr size_t kFp8Fused = 2;                  // up to this many tokens fp8 codes are decoded in registers

ActKey act_key(const QuantKernels& kernels, const PreparedData& p, ActMode mode) {
  ActKey key;
  key.form = kernels.act_form(p.spec, mode);
  // kSplit needs |a| <= 127 * 256 + 127. With 12-bit NF4 integers 14 bits keep 32 products inside 31 bits.
  key.limit = mode == ActMode::kA8 ? 127 : p.spec.form == CodeForm::kNibbleTable16 ? 16383 : 32639;
  key.step = p.step;
  key.sum_factor = p.zero_points.size() > 0 ? 1 : -p.spec.offset;
  key.cols = static_cast<size_t>(p.cols);
  key.padded_cols = p.padded_cols;
  if (p.pads_groups) {
    key.group = static_cast<size_t>(p.group_size);
    key.padded_group = p.group;
  }
  return key;
}

bool same_tensor(const Tensor& a, const Tensor& b) {
  return a.numel() == b.numel() && (a.is_empty() || a.bytes().data() == b.bytes().data() ||
                                    std::memcmp(a.bytes().data(), b.bytes().data(), a.nbytes()) == 0);
}

// Column scales of different weights differ in their first element, so that comparing costs nothing.
bool same_transform(const InputTransform& a, const InputTransform& b) {
  return a.hadamard == b.hadamard && same_tensor(a.col_scales, b.col_scales) && same_tensor(a.rotation, b.rotation);
}

// Index of the input that a weight reads, added when new. q, k, v or gate, up with one rotation share it.
size_t find_input(const InputTransform& t, MatView<const float> x, MatmulScratch::Impl* s) {
  const bool plain = !t.present();
  for (size_t i = 0; i < s->inputs_used; ++i) {
    const InputTransform* known = s->inputs[i].transform;
    if (plain ? known == nullptr : known != nullptr && (known == &t || same_transform(*known, t))) return i;
  }
  if (s->inputs_used == s->inputs.size()) s->inputs.emplace_back();
  Input& input = s->inputs[s->inputs_used];
  input.transform = plain ? nullptr : &t;
  input.rows = x;
  if (!plain) {
    input.values.resize(x.rows * x.cols);
    input.rows = MatView<const float>(input.values.data(), x.rows, x.cols);
  }
  return s->inputs_used++;
}

// Index of the activations with this key, added when new.
size_t find_quant_acts(const ActKey& key, size_t input, MatmulScratch::Impl* s) {
  for (size_t i = 0; i < s->quant_used; ++i)
    if (s->quant[i].input == input && s->quant[i].key == key) return i;
  if (s->quant_used == s->quant.size()) s->quant.emplace_back();
  s->quant[s->quant_used].key = key;
  s->quant[s->quant_used].input = input;
  return s->quant_used++;
}

size_t find_dense_acts(DenseForm form, size_t input, MatmulScratch::Impl* s) {
  for (size_t i = 0; i < s->dense_used; ++i)
    if (s->dense[i].input == input && s->dense[i].form == form) return i;
  if (s->dense_used == s->dense.size()) s->dense.emplace_back();
  s->dense[s->dense_used].form = form;
  s->dense[s->dense_used].input = input;
  return s->dense_used++;
}

// One extra cache line per row keeps rows of power-of-two length out of the same cache sets.
size_t row_stride(size_t bytes) { return round_up<size_t>(bytes, 64) + 64; }

void resize(QuantActs* a, size_t tokens) {
  const size_t steps = a->key.padded_cols / a->key.step, blocks = a->key.padded_cols / kActBlock;
  a->code_stride = row_stride(a->key.padded_cols * act_bytes(a->key.form));
  a->scale_stride = blocks;
  a->step_stride = steps;
  a->codes.resize(a->code_stride * tokens);
  a->scales.resize(blocks * tokens);
  a->corrections.resize(steps * tokens);
  a->sums.resize(steps * tokens);
}

void convert_row(const QuantKernels& kernels, const float* x, size_t t, QuantActs* a) {
  kernels.pack_acts(x, a->key,
                    {a->codes.data() + t * a->code_stride, a->scales.data() + t * a->scale_stride,
                     a->corrections.data() + t * a->step_stride, a->sums.data() + t * a->step_stride});
}

// Groups [first, first + n) of one row block as F32 [n][16]: a pointer into the weight where it is F32 already,
// otherwise `buffer`.
const float* group_values(const QuantKernels& kernels, const PreparedData& p, const GroupValues& v, size_t block,
                          size_t first, size_t n, float sign, float* buffer) {
  const size_t size = dtype_bytes(v.dtype);
  const uint8_t* values = v.values.data() + (block * p.groups + first) * kLanes * size;
  if (v.dtype == DType::kF32) return reinterpret_cast<const float*>(values);
  kernels.widen(v.dtype, values, n * kLanes, buffer);
  if (v.supers.size() == 0) return buffer;
  const size_t supers = ceil_div<size_t>(static_cast<size_t>(p.cols), 256);
  alignas(64) float super[kLanes];
  for (size_t g = 0; g < n;) {
    // Padding groups behind the last k belong to the last super group.
    const size_t s = std::min((first + g) * p.group / 256, supers - 1);
    const size_t end = s + 1 == supers ? n : std::min(n, ceil_div((s + 1) * 256, p.group) - first);
    kernels.widen(DType::kF16, v.supers.data() + (block * supers + s) * kLanes * 2, kLanes, super);
    for (float& f : super) f *= sign;
    kernels.scale_groups(super, end - g, buffer + g * kLanes);
    g = end;
  }
  return buffer;
}

// Buffers of one item; they live on the worker's stack (about 60 KiB).
struct QuantBuffers {
  alignas(64) float acc[kTokenTile * kLanes];
  alignas(64) float scales[kPanelK / 16 * kLanes];
  alignas(64) float mins[kPanelK / 16 * kLanes];
  alignas(64) int32_t zero_points[kPanelK / 16 * kLanes];
  alignas(64) uint8_t panel[kPanelK * kLanes * 2];
};

void write_rows(const Job& job, size_t row, size_t rows, size_t token, size_t tokens, const float* acc) {
  const float scale = job.weight->out_scale;
  for (size_t t = 0; t < tokens; ++t) {
    float* y = job.y.row(token + t) + row;
    const float* a = acc + t * kLanes;
    if (job.store == Store::kAdd) {
      for (size_t i = 0; i < rows; ++i) y[i] += scale * a[i];
    } else {
      for (size_t i = 0; i < rows; ++i) y[i] = scale * a[i];
    }
  }
}

void run_quant_block(const QuantKernels& kernels, const Job& job, size_t block, size_t token, size_t tokens,
                     QuantBuffers* b) {
  const PreparedData& p = *job.weight;
  const QuantActs& a = job.scratch->quant[job.acts];
  const size_t position_bytes_x2 = p.spec.form == CodeForm::kByte ? 2 * kLanes : kLanes;
  const bool panel = p.spec.form != CodeForm::kByte && tokens > kernels.fused_tokens;
  const uint8_t* codes = p.codes.data() + block * p.code_block_bytes();
  std::memset(b->acc, 0, tokens * kLanes * sizeof(float));
  DotArgs d{};
  d.spec = &p.spec;
  d.unpacked = panel;
  d.step = p.step;
  d.steps_per_group = p.group / p.step;
  d.form = a.key.form;
  d.tokens = tokens;
  d.act_stride = a.code_stride;
  d.scale_stride = a.scale_stride;
  d.step_stride = a.step_stride;
  d.acc = b->acc;
  for (size_t k = 0; k < p.padded_cols; k += kPanelK) {
    const size_t width = std::min(kPanelK, p.padded_cols - k), first_step = k / p.step;
    const size_t first_group = first_step / d.steps_per_group;
    d.steps = width / p.step;
    d.first_in_group = first_step % d.steps_per_group;
    const size_t groups = (first_step + d.steps - 1) / d.steps_per_group - first_group + 1;
    d.scales = group_values(kernels, p, p.scales, block, first_group, groups, 1.0f, b->scales);
    if (p.mins.present()) d.mins = group_values(kernels, p, p.mins, block, first_group, groups, -1.0f, b->mins);
    if (p.zero_points.size() > 0) {
      const uint8_t* zeros = p.zero_points.data() + (block * p.groups + first_group) * kLanes;
      for (size_t i = 0; i < groups * kLanes; ++i) b->zero_points[i] = zeros[i];
      d.zero_points = b->zero_points;
    }
    d.codes = codes + k * position_bytes_x2 / 2;
    if (panel) {
      kernels.unpack(p.spec, d.codes, width, b->panel);
      d.codes = b->panel;
    }
    d.acts = a.codes.data() + token * a.code_stride + k * act_bytes(a.key.form);
    d.act_scales = a.scales.data() + token * a.scale_stride + k / kActBlock;
    d.corrections = a.corrections.data() + token * a.step_stride + first_step;
    d.act_sums = a.sums.data() + token * a.step_stride + first_step;
    kernels.dot(d);
  }
}

}  // namespace

void store_rows(const Job& job, size_t row, size_t rows, size_t token, size_t tokens, const float* acc) {
  for (size_t t = 0; t < tokens; ++t) {
    float* y = job.y.row(token + t) + row;
    const float* from = acc + t * kDenseRowsMax;
    for (size_t i = 0; i < rows; ++i) y[i] = job.store == Store::kAdd ? y[i] + from[i] : from[i];
  }
}

void MatmulScratch::Impl::begin() {
  jobs.clear();
  inputs_used = quant_used = dense_used = 0;
}

Job make_job(const KernelSet& kernels, const PreparedData& p, ActMode mode, MatView<const float> x, MatView<float> y,
             Store store, MatmulScratch::Impl* scratch) {
  Job job{};
  const size_t input = find_input(p.input, x, scratch);
  job.weight = &p;
  job.x = scratch->inputs[input].rows;
  job.y = y;
  job.store = store;
  job.scratch = scratch;
  const auto rows = static_cast<size_t>(p.rows), cols = std::max<size_t>(1, static_cast<size_t>(p.cols));
  job.tokens_per_item = kTokenTile;
  if (p.layout == Layout::kDense) {
    job.acts = find_dense_acts(kernels.dense.act_form(p.dense.dtype()), input, scratch);
    const size_t row_bytes = cols * dtype_bytes(p.dense.dtype());
    const size_t wanted = round_up(ceil_div(kItemBytes, row_bytes), kDenseTileRows);
    job.rows_per_item = std::clamp<size_t>(wanted, kDenseTileRows, kDenseRowsMax);
    // Batches: more rows per pass over the activations, as long as there are items for many threads.
    if (x.rows >= 16 && rows >= 8 * kDenseRowsMax) job.rows_per_item = kDenseRowsMax;
  } else if (p.layout == Layout::kFx3) {
    job.acts = find_dense_acts(kernels.dense.act_form(DType::kBF16), input, scratch);
    // Fused rows want long items (fx3_product.cpp), threads want many; divisors of kFx3TableRows, for one table each.
    job.rows_per_item = rows >= 32 * kDenseRowsMax ? kDenseRowsMax : rows >= 8 * kDenseRowsMax ? 48 : kDenseTileRows;
  } else {
    if (p.layout == Layout::kQuant) job.acts = find_quant_acts(act_key(kernels.quant, p, mode), input, scratch);
    const size_t block_bytes = std::max<size_t>(1, p.code_block_bytes());
    job.rows_per_item = kLanes * std::clamp<size_t>(kItemBytes / block_bytes, 1, 16);
  }
  job.row_items = ceil_div(rows, job.rows_per_item);
  job.token_items = ceil_div(x.rows, job.tokens_per_item);
  return job;
}

void convert_activations(const KernelSet& kernels, MatView<const float> x, ThreadPool& pool, MatmulScratch::Impl* s) {
  for (size_t i = 0; i < s->quant_used; ++i) resize(&s->quant[i], x.rows);
  for (size_t i = 0; i < s->dense_used; ++i) {
    DenseActs& a = s->dense[i];
    a.stride = row_stride(round_up(x.cols, kDensePad) * dense_act_bytes(a.form));
    a.values.resize(a.stride * x.rows);
  }
  auto body = [&](size_t begin, size_t end) {
    for (size_t i = 0; i < s->inputs_used; ++i) {
      Input& input = s->inputs[i];
      if (input.transform == nullptr) continue;
      const MatView<float> values(input.values.data(), x.rows, x.cols);
      transform_rows(*input.transform, x.slice_rows(begin, end), values.slice_rows(begin, end));
    }
    for (size_t t = begin; t < end; ++t) {
      for (size_t i = 0; i < s->quant_used; ++i)
        convert_row(kernels.quant, s->inputs[s->quant[i].input].rows.row(t), t, &s->quant[i]);
      for (size_t i = 0; i < s->dense_used; ++i) {
        DenseActs& a = s->dense[i];
        kernels.dense.pack_acts(s->inputs[a.input].rows.row(t), x.cols, a.form, a.values.data() + t * a.stride);
      }
    }
  };
  // A few rows take microseconds: not worth waking the workers twice.
  if (x.rows * x.cols < (size_t{1} << 16)) return body(0, x.rows);
  pool.parallel_chunks(x.rows, 4, std::ref(body));
}

void run_item(const KernelSet& kernels, const Job& job, size_t item) {
  // Token tiles of the same rows follow each other, so the second one finds the weights in a cache.
  const size_t row = item / job.token_items * job.rows_per_item;
  const size_t token = item % job.token_items * job.tokens_per_item;
  const size_t rows = std::min(job.rows_per_item, static_cast<size_t>(job.weight->rows) - row);
  const size_t tokens = std::min(job.tokens_per_item, job.x.rows - token);
  switch (job.weight->layout) {
    case Layout::kDense:
      return run_dense_item(kernels.dense, job, row, rows, token, tokens);
    case Layout::kQuant:
      return run_quant_item(kernels.quant, job, row, rows, token, tokens);
    case Layout::kFx3:
      return run_fx3_item(kernels, job, row, rows, token, tokens);
    case Layout::kFp8:
      return run_fp8_item(kernels.quant, job, row, rows, token, tokens);
  }
}

void run_quant_item(const QuantKernels& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens) {
  QuantBuffers buffers;
  for (size_t r = 0; r < rows; r += kLanes) {
    run_quant_block(kernels, job, (row + r) / kLanes, token, tokens, &buffers);
    write_rows(job, row + r, std::min(kLanes, rows - r), token, tokens, buffers.acc);
  }
}

void run_fp8_item(const QuantKernels& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens) {
  const PreparedData& p = *job.weight;
  const auto cols = static_cast<size_t>(p.cols);
  // Small groups: several per call; long ones: a call per segment.
  const size_t per_call = p.group <= kFp8Segment ? kFp8Segment / p.group * p.group : kFp8Segment;
  alignas(64) float acc[kTokenTile * kLanes];
  alignas(64) float scales[kFp8Segment * kLanes];
  alignas(64) float panel[kFp8Segment * kLanes];
  for (size_t r = 0; r < rows; r += kLanes) {
    const size_t block = (row + r) / kLanes;
    std::memset(acc, 0, tokens * kLanes * sizeof(float));
    for (size_t k = 0, width = 0; k < cols; k += width) {
      const size_t group_end = p.group > kFp8Segment ? (k / p.group + 1) * p.group : cols;
      width = std::min({per_call, cols - k, group_end - k});
      Fp8Args d{};
      d.codes = p.codes.data() + block * p.code_block_bytes() + k * kLanes;
      if (tokens > kFp8Fused && kernels.isa != Isa::kScalar) {
        kernels.unpack_fp8(d.codes, width, panel);
        d.panel = panel;
      }
      d.cols = width;
      d.group = p.group;
      const size_t first = k / p.group, groups = (k + width - 1) / p.group - first + 1;
      d.scales = group_values(kernels, p, p.scales, block, first, groups, 1.0f, scales);
      d.tokens = tokens;
      d.x = job.x.row(token) + k;
      d.x_stride = job.x.stride;
      d.acc = acc;
      kernels.fp8(d);
    }
    write_rows(job, row + r, std::min(kLanes, rows - r), token, tokens, acc);
  }
}

void run_dense_item(const DenseKernels& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens) {
  const PreparedData& p = *job.weight;
  const DenseActs& a = job.scratch->dense[job.acts];
  const auto cols = static_cast<size_t>(p.cols);
  const size_t size = dtype_bytes(p.dense.dtype());
  const auto* bytes = reinterpret_cast<const uint8_t*>(p.dense.bytes().data());
  alignas(64) float acc[kTokenTile * kDenseRowsMax];
  std::memset(acc, 0, tokens * kDenseRowsMax * sizeof(float));
  for (size_t k = 0; k < cols; k += kDenseBlockK) {
    DenseArgs d{};
    d.type = p.dense.dtype();
    d.w = bytes + (row * cols + k) * size;
    d.w_stride = cols * size;
    d.rows = rows;
    d.x = a.values.data() + token * a.stride + k * dense_act_bytes(a.form);
    d.x_stride = a.stride;
    d.tokens = tokens;
    d.cols = std::min(kDenseBlockK, cols - k);
    d.y = acc;
    d.y_stride = kDenseRowsMax;
    d.add = true;
    kernels.dot(d);
  }
  store_rows(job, row, rows, token, tokens, acc);
}

}  // namespace fettle::kernels
