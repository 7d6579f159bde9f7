// Integer levels 0 … 255, bytes in memory and floats in registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vector.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int kBytes = 16;  // moved, transposed and filtered together

inline Vec min(Vec a, Vec b) { return a < b ? a : b; }

// Towards zero.
inline Vec truncate(Vec x) {
  return __builtin_convertvector(__builtin_convertvector(x, VecInt), Vec);
}

// To the nearest, halves to even, for |x| < 2^22.
inline Vec nearest(Vec x) { return (x + 12582912.0f) - 12582912.0f; }

inline Vec clamp_level(Vec x) { return min(max(x, Vec{}), broadcast(255)); }

// a b + c, rounded once if the instruction set can. Colours need two roundings, which are written
// with operators that the compiler may not contract.
inline Vec fused(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline VecInt load(const int32_t* p) {
  VecInt v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(int32_t* p, VecInt v) { std::memcpy(p, &v, sizeof v); }

// Reads kLanes bytes.
inline VecInt load_integers(const uint8_t* p) {
#if defined(__AVX512F__)
  return (VecInt)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (VecInt)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  VecInt v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[lane];
  return v;
#endif
}

inline Vec load_levels(const uint8_t* p) { return __builtin_convertvector(load_integers(p), Vec); }

// Writes kLanes bytes, clamped to 0 … 255.
inline void store_levels(uint8_t* p, VecInt x) {
#if defined(__AVX512F__)
  const __m512i positive = _mm512_max_epi32((__m512i)x, _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(positive));
#elif defined(__AVX2__)
  const __m256i wide = (__m256i)x;
  const __m128i half =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(half, half));
#else
  for (int lane = 0; lane < kLanes; ++lane)
    p[lane] = static_cast<uint8_t>(x[lane] < 0 ? 0 : x[lane] > 255 ? 255 : x[lane]);
#endif
}

inline void store_levels(uint8_t* p, Vec x) { store_levels(p, __builtin_convertvector(x, VecInt)); }

// Row i of `out` becomes byte i of every row.
inline void transpose_bytes(const uint8_t* const rows[kBytes], uint8_t out[kBytes][kBytes]) {
#if defined(__SSE2__)
  __m128i a[kBytes], b[kBytes];
  for (int i = 0; i < kBytes; ++i)
    a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i]));
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < kBytes / 2; ++i) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + kBytes / 2]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + kBytes / 2]);
    }
    std::memcpy(a, b, sizeof a);
  }
  std::memcpy(out, a, sizeof a);
#else
  for (int i = 0; i < kBytes; ++i)
    for (int j = 0; j < kBytes; ++j) out[i][j] = rows[j][i];
#endif
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
