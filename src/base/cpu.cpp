#include "base/cpu.h"

#include <sched.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/error.h"

namespace fettle {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16};

#if defined(__x86_64__)
// Asked by hand: clang 14 does not know the name in __builtin_cpu_supports.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return Isa::kScalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::kAvx2;
  if (!__builtin_cpu_supports("avx512vnni")) return Isa::kAvx512;
  return __builtin_cpu_supports("avx512bf16") ? Isa::kAvx512Bf16 : Isa::kAvx512Vnni;
#else
  return Isa::kScalar;
#endif
}

Isa machine_isa() {
  static const Isa isa = detect();
  return isa;
}

Isa initial_isa() {
  const char* forced = std::getenv("FETTLE_ISA");
  if (!forced || !*forced) return machine_isa();
  const Isa isa = parse_isa(forced);
  if (isa > machine_isa())
    fail(ErrorCode::kUsage, "FETTLE_ISA={}: this machine supports up to {}", forced, isa_name(machine_isa()));
  return isa;
}

std::atomic<int> g_forced{-1};

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
  }
  return "?";
}

Isa parse_isa(std::string_view name) {
  for (Isa isa : kAll)
    if (isa_name(isa) == name) return isa;
  fail(ErrorCode::kUsage, "unknown ISA level '{}'; known: scalar, avx2, avx512, avx512_vnni, avx512_bf16",
       printable(name));
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> out;
  for (Isa isa : kAll)
    if (isa <= machine_isa()) out.push_back(isa);
  return out;
}

Isa active_isa() {
  const int forced = g_forced.load(std::memory_order_relaxed);
  if (forced >= 0) return static_cast<Isa>(forced);
  static const Isa initial = initial_isa();
  return initial;
}

void force_isa(Isa isa) {
  if (isa > machine_isa())
    fail(ErrorCode::kUsage, "--isa {}: this machine supports up to {}", isa_name(isa), isa_name(machine_isa()));
  g_forced.store(static_cast<int>(isa), std::memory_order_relaxed);
}

void unforce_isa() { g_forced.store(-1, std::memory_order_relaxed); }

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpus = 1;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  std::ifstream quota("/sys/fs/cgroup/cpu.max");
  std::string limit;
  double period = 0;
  if (quota >> limit >> period; quota && limit != "max" && period > 0) {
    const int allowed = static_cast<int>(std::floor(std::strtod(limit.c_str(), nullptr) / period));
    cpus = std::clamp(allowed, 1, cpus);
  }
  return cpus;
}

std::string_view cpu_model() {
  static const std::string name = [] {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
      if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
    return std::string("unknown CPU");
  }();
  return name;
}

}  // namespace fettle
