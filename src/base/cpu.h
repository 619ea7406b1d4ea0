#pragma once

#include <string_view>
#include <vector>

namespace fettle {

// Instruction-set levels of the native kernels, each including the ones before it.
enum class Isa {
  kScalar,      // portable C++
  kAvx2,        // AVX2 + FMA + F16C
  kAvx512,      // AVX-512 F/BW/VL/DQ
  kAvx512Vnni,  // + VNNI (8-bit and 16-bit integer dot products)
  kAvx512Bf16,  // + BF16 dot products
};

std::string_view isa_name(Isa isa);    // "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16"
Isa parse_isa(std::string_view name);  // throws kUsage with the list
std::vector<Isa> supported_isas();     // of this machine, lowest first

// The level kernels run at: the best of the machine, or what force_isa / FETTLE_ISA set (kUsage when the machine lacks
// it). Kernels read it at call time, so a test can switch levels.
Isa active_isa();
void force_isa(Isa isa);
void unforce_isa();

// Threads this process may use: affinity mask, bounded by the cgroup CPU quota; at least 1.
int available_cpus();

std::string_view cpu_model();

}  // namespace fettle
