#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

// Orthogonal transforms of layer inputs. Row-vector convention: x' = x M, w' = w M (M orthogonal), so x' w'^T = x w^T.
namespace fettle::compress {

enum class Transform : uint8_t {
  kIdentity,
  kHadamard,  // Sylvester's matrix / sqrt(k), natural order, k a power of two: symmetric
  kDct,       // type II cosine: c_j cos(pi (2i + 1) j / 2k), not symmetric
  kDst,       // type II sine: d_j sin(pi (2i + 1) (j + 1) / 2k), d_{k-1} = sqrt(1/k), else sqrt(2/k): orthonormal
              // (upstream's matrix reduces d_0 instead and is not)
  kGsr,       // Hadamard's columns by ascending number of sign changes (sequency order)
};
std::string_view transform_name(Transform t);     // "hadamard"
Transform find_transform(std::string_view name);  // kUsage with the list of names

// M [k, k] row-major. Throws kUsage when the class has no matrix of that size.
std::vector<double> transform_matrix(Transform t, int64_t k);

// out = x with every run of k columns multiplied by M; F32 (Hadamard: additions, then one factor). Throws kInput when k
// does not divide the columns. x and out may be the same matrix.
void apply_blocks(Transform t, int64_t k, MatView<const float> x, MatView<float> out, ThreadPool& pool);

// M^T H M with M block-diagonal: the statistics of transformed inputs when only those of plain inputs were kept. F64.
std::vector<float> transform_hessian(Transform t, int64_t k, MatView<const float> h, ThreadPool& pool);

// Hadamard matrix of size K, entries +-1 row-major. K in {12, 20, 28, 36, 40, 52, 60, 108, 140, 152, 156, 172} gives
// the matrices that QuaRot-style checkpoints use (sequence A of Sloane's tables: Paley I and II, Williamson), other
// sizes Paley I (K = q + 1, q = 3 mod 4) or Paley II (K = 2 (q + 1), q = 1 mod 4), q a prime power. Empty: none known.
std::vector<int8_t> small_hadamard(int64_t k);

// How n splits into 2^m * K: K = 1 for powers of two, else the first of 172, 156, 152, 140, 108, 60, 52, 36, 28, 40,
// 20, 12 that leaves a power of two, else the smallest K with a Paley matrix; 0 when n has no Hadamard matrix here.
int64_t hadamard_odd_part(int64_t n);

// y = x (H_K kron H_{2^m})^T / sqrt(n), x viewed [K, n / K]; transposed: with the transpose (the other side of a
// product, as H_K is not symmetric for most K). F64 inside when `precise`, F32 otherwise. Throws kUsage for n without a
// matrix. In place.
enum class HadamardSide : uint8_t { kPlain, kTransposed };
void hadamard_any(std::span<float> x, HadamardSide side);
void hadamard_any(std::span<double> x, HadamardSide side);

}  // namespace fettle::compress
