#pragma once

#include <vector>

#include "base/aligned.h"
#include "kernels/dense_kernels.h"
#include "kernels/fx3_kernels.h"
#include "kernels/matmul.h"
#include "kernels/quant_kernels.h"

// Parts of matmul.cpp that tests drive with kernels of their own choice.
namespace fettle::kernels {

inline constexpr size_t kDenseRowsMax = 96;  // rows x kDenseBlockK bf16 stay in L2 while token tiles pass over them

struct KernelSet {
  const QuantKernels& quant;
  const DenseKernels& dense;
  const Fx3Kernel* fx3 = nullptr;  // nullptr: the best of the active level
};

// The rows of x as one kind of weight wants them: x itself, or x after an input transform.
struct Input {
  const InputTransform* transform = nullptr;
  MatView<const float> rows;
  AlignedBuffer<float> values;  // where a transformed input lies
};

// Converted activations of one call, in the form one kind of weight needs.
struct QuantActs {
  ActKey key;
  size_t input = 0;
  size_t code_stride = 0, scale_stride = 0, step_stride = 0;  // bytes, floats, floats between tokens
  AlignedBuffer<uint8_t> codes;
  AlignedBuffer<float> scales, sums;
  AlignedBuffer<int32_t> corrections;
};
struct DenseActs {
  DenseForm form = DenseForm::kF32;
  size_t input = 0;
  size_t stride = 0;  // bytes between tokens
  AlignedBuffer<uint8_t> values;
};

// One weight of a call, cut into row_items * token_items items; each item writes its own part of y.
struct Job {
  const PreparedData* weight;
  MatView<const float> x;
  MatView<float> y;
  Store store;
  size_t acts;  // index into the scratch's quant or dense activations
  const MatmulScratch::Impl* scratch;
  size_t rows_per_item, row_items;  // weight rows
  size_t tokens_per_item, token_items;
  size_t first_item = 0;
};

struct MatmulScratch::Impl {
  std::vector<Input> inputs;  // the first inputs_used are of this call; buffers are kept, here and below
  std::vector<QuantActs> quant;
  std::vector<DenseActs> dense;
  size_t inputs_used = 0, quant_used = 0, dense_used = 0;
  std::vector<Job> jobs;
  void begin();
};

Job make_job(const KernelSet& kernels, const PreparedData& p, ActMode mode, MatView<const float> x, MatView<float> y,
             Store store, MatmulScratch::Impl* scratch);
void convert_activations(const KernelSet& kernels, MatView<const float> x, ThreadPool& pool,
                         MatmulScratch::Impl* scratch);
void run_item(const KernelSet& kernels, const Job& job, size_t item);
void run_quant_item(const QuantKernels& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens);
void run_fp8_item(const QuantKernels& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens);
void run_fx3_item(const KernelSet& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens);
// Weights of one row, columns [begin, begin + width), begin a multiple of a tile. out: [width rounded up to tiles].
void fx3_decode_block(const Fx3Kernel& kernel, const PreparedData& p, size_t row, size_t begin, size_t width,
                      uint16_t* out);
void run_dense_item(const DenseKernels& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens);

// Writes or adds sums of a job's rows. acc: [tokens][kDenseRowsMax].
void store_rows(const Job& job, size_t row, size_t rows, size_t token, size_t tokens, const float* acc);

void matmul_with(const KernelSet& kernels, MatView<const float> x, std::span<const PreparedWeight* const> ws,
                 ActMode mode, ThreadPool& pool, MatmulScratch& scratch, std::span<const MatView<float>> ys,
                 Store store);

}  // namespace fettle::kernels
