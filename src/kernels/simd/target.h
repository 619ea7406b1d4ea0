#pragma once

// Function-scope instruction sets: everything between FETTLE_TARGET_<LEVEL> and FETTLE_TARGET_END is compiled for that
// level, and nothing else of the program is. Include all headers before the first of these lines, so that their inline
// functions stay baseline code.
#define FETTLE_INLINE inline __attribute__((always_inline))

#if defined(__clang__)
#define FETTLE_UNROLL _Pragma("unroll")
#define FETTLE_TARGET_AVX2 \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c\"))), apply_to = function)")
#define FETTLE_TARGET_AVX512                                                                                          \
  _Pragma(                                                                                                            \
      "clang attribute push(__attribute__((target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq\"))), apply_to " \
      "= function)")
#define FETTLE_TARGET_AVX512_BF16                                                                                  \
  _Pragma(                                                                                                         \
      "clang attribute "                                                                                           \
      "push(__attribute__((target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16\"))), apply_to = " \
      "function)")
#define FETTLE_TARGET_END _Pragma("clang attribute pop")
#else
#define FETTLE_UNROLL _Pragma("GCC unroll 16")
#define FETTLE_TARGET_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c\")")
#define FETTLE_TARGET_AVX512 \
  _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq\")")
#define FETTLE_TARGET_AVX512_BF16 \
  _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16\")")
#define FETTLE_TARGET_END _Pragma("GCC pop_options")
#endif
