// One vector register of floats, as wide as the instruction set this file is compiled for.
#pragma once

#include <cstdint>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#ifndef SSLKERNELS_ISA
#error "compile with -DSSLKERNELS_ISA=<namespace of the instruction set>"
#endif

namespace sslkernels::cpu::SSLKERNELS_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kPanelVectors = 4;  // 6 x 4 accumulators of 32 registers
#elif defined(__AVX__)
constexpr int kLanes = 8;
constexpr int kPanelVectors = 2;  // 6 x 2 accumulators of 16 registers
#else
constexpr int kLanes = 4;
constexpr int kPanelVectors = 2;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecInt __attribute__((vector_size(kLanes * 4)));
typedef uint32_t VecBits __attribute__((vector_size(kLanes * 4)));  // which may wrap around

inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }

inline Vec broadcast(float x) { return x - Vec{}; }

// Does not propagate NaN: the sums that follow do.
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }

// a b + c, rounded once if the instruction set can.
inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline float horizontal_sum(Vec v) {
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

inline float horizontal_max(Vec v) {
  float best = v[0];
  for (int lane = 1; lane < kLanes; ++lane) best = v[lane] > best ? v[lane] : best;
  return best;
}

// e^x for x <= 88, within 1.5 ulp; 0 below -87; NaN stays NaN. x = n ln2 + r with ln2 in two parts;
// the polynomial is a minimax fit of e^r for |r| <= ln2 / 2, relative error 1.8e-8.
inline Vec exp(Vec x) {
  const float round_to_integer = 12582912.0f;  // 1.5 * 2^23
  const Vec shifted = x * 1.44269504f + round_to_integer;
  const Vec n = shifted - round_to_integer;
  const Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vec p = r * 1.38435594e-3f + 8.37423559e-3f;
  p = p * r + 4.16680090e-2f;
  p = p * r + 1.66664302e-1f;
  p = p * r + 4.99999940e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const VecBits power = ((VecBits)shifted << 23) + (127u << 23);
  return x < -87.0f ? Vec{} : p * (Vec)power;
}

// One bit per lane: set where the lane is larger than x, or NaN.
inline uint32_t not_at_most(Vec v, float x) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(x), _CMP_NLE_UQ);
#elif defined(__AVX__)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_set1_ps(x), _CMP_NLE_UQ));
#else
  uint32_t lanes = 0;
  for (int lane = 0; lane < kLanes; ++lane) lanes |= uint32_t(!(v[lane] <= x)) << lane;
  return lanes;
#endif
}

// log(1 + t) for 0 <= t <= 1, within 1.5 ulp even for the smallest t. With z = t / (2 + t) it is
// 2 atanh(z) = t - z (t - z² R(z²)); R is a minimax fit for z <= 1/3, relative error 4.5e-9.
inline Vec log1p(Vec t, Vec z) {
  const Vec u = z * z;
  Vec p = u * 0.280119921f + 0.280018043f;
  p = p * u + 0.400215273f;
  p = p * u + 0.666664163f;
  return t - z * (t - u * p);
}
inline Vec log1p(Vec t) { return log1p(t, t / (t + 2.0f)); }

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|); 0 below -87.
inline Vec softplus(Vec x) { return max(x, Vec{}) + log1p(exp(-max(x, -x))); }

// 1 / (1 + e^-x), without overflow; 0 below -87.
inline Vec sigmoid(Vec x) {
  const Vec t = exp(-max(x, -x));
  return (x < 0.0f ? t : broadcast(1.0f)) / (t + 1.0f);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
