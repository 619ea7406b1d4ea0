#include "kernels/matmul.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "base/checked.h"
#include "kernels/matmul_driver.h"
#include "kernels/prepared.h"

namespace fettle::kernels {
namespace {

constexpr const QuantKernels& (*kQuantList[])() = {
#if defined(__x86_64__)
    &avx512_vnni_quant_kernels,  // vpdpbusd: 64 products per instruction without a second widening step
    &avx512_quant_kernels,
    &avx2_quant_kernels,
#endif
    &scalar_quant_kernels,
};
constexpr const DenseKernels& (*kDenseList[])() = {
#if defined(__x86_64__)
    &avx512_bf16_dense_kernels,  // vdpbf16ps: twice the rate of F32 products
    &avx512_dense_kernels,
    &avx2_dense_kernels,
#endif
    &scalar_dense_kernels,
};

}  // namespace

const QuantKernels& quant_kernels(Isa isa) {
  for (const auto get : kQuantList)
    if (get().isa <= isa) return get();
  return scalar_quant_kernels();
}

const DenseKernels& dense_kernels(Isa isa) {
  for (const auto get : kDenseList)
    if (get().isa <= isa) return get();
  return scalar_dense_kernels();
}

MatmulScratch::MatmulScratch() : impl_(std::make_unique<Impl>()) {}
MatmulScratch::~MatmulScratch() = default;
MatmulScratch::MatmulScratch(MatmulScratch&&) noexcept = default;
MatmulScratch& MatmulScratch::operator=(MatmulScratch&&) noexcept = default;

void matmul_with(const KernelSet& kernels, MatView<const float> x, std::span<const PreparedWeight* const> ws,
                 ActMode mode, ThreadPool& pool, MatmulScratch& scratch, std::span<const MatView<float>> ys,
                 Store store) {
  FETTLE_CHECK_EQ(ws.size(), ys.size());
  MatmulScratch::Impl& s = scratch.impl();
  s.begin();
  for (size_t i = 0; i < ws.size(); ++i) {
    const PreparedData& p = ws[i]->data();
    FETTLE_CHECK_EQ(x.cols, static_cast<size_t>(p.cols));
    FETTLE_CHECK_EQ(ys[i].rows, x.rows);
    FETTLE_CHECK_EQ(ys[i].cols, static_cast<size_t>(p.rows));
    if (x.rows == 0 || p.rows == 0) continue;
    s.jobs.push_back(make_job(kernels, p, mode, x, ys[i], store, &s));
  }
  convert_activations(kernels, x, pool, &s);
  size_t items = 0;
  for (Job& job : s.jobs) {
    job.first_item = items;
    items += job.row_items * job.token_items;
  }
  auto body = [&](size_t item) {
    size_t j = s.jobs.size() - 1;
    while (s.jobs[j].first_item > item) --j;
    run_item(kernels, s.jobs[j], item - s.jobs[j].first_item);
  };
  pool.parallel_for(items, std::ref(body));
}

void matmul_many(MatView<const float> x, std::span<const PreparedWeight* const> ws, ActMode mode, ThreadPool& pool,
                 MatmulScratch& scratch, std::span<const MatView<float>> ys, Store store) {
  const Isa isa = active_isa();
  matmul_with({quant_kernels(isa), dense_kernels(isa), &fx3_kernel(isa)}, x, ws, mode, pool, scratch, ys, store);
}

void matmul(MatView<const float> x, const PreparedWeight& w, ActMode mode, ThreadPool& pool, MatmulScratch& scratch,
            MatView<float> y, Store store) {
  const PreparedWeight* const weight = &w;
  matmul_many(x, {&weight, 1}, mode, pool, scratch, {&y, 1}, store);
}

}  // namespace fettle::kernels
