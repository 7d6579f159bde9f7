// Copies runs of a row between memory, in any dtype, and a buffer of floats in cache.
#pragma once

#include <type_traits>

#include "pack.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int kRun = 2048;          // floats in a run: a few runs fit the L1 cache
constexpr float kNothing = -1e30f;  // e^kNothing is 0, and 0 times it too

// A factor in two floats, so that a product rounds once.
struct Factor {
  float high, low;
  explicit Factor(double factor)
      : high(static_cast<float>(factor)), low(static_cast<float>(factor - high)) {}
  Vec operator*(Vec x) const {
    const Vec product = x * high + x * low;
    return x < kNothing ? x : product;  // for -inf the parts may be NaN
  }
};

template <class T>
inline Vec load_lanes(const T* data) {
  Vec v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = to_float(data[lane]);
  return v;
}
inline Vec load_lanes(const float* data) { return load(data); }
#if defined(__AVX512F__)
inline Vec load_lanes(const BFloat16* data) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
  return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}
inline Vec load_lanes(const Float16* data) {
  return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
}
#endif

inline uint32_t float_to_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

// To the nearest, ties to even; overflow becomes infinite, NaN stays NaN.
inline void assign(float& out, float x) { out = x; }
inline void assign(BFloat16& out, float x) {
  const uint32_t bits = float_to_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  out.bits = static_cast<uint16_t>(x == x ? rounded : bits >> 16 | 0x40u);
}
inline void assign(Float16& out, float x) {
  const uint32_t bits = float_to_bits(x), sign = bits >> 16 & 0x8000u,
                 magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude >= 0x47800000u)  // 2^16 and above
    half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  else if (magnitude < 0x38800000u)  // below 2^-14: adding 1/2 rounds to multiples of 2^-24
    half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  else
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  out.bits = static_cast<uint16_t>(sign | half);
}

template <class T>
inline void store_lanes(T* data, Vec v) {
  for (int lane = 0; lane < kLanes; ++lane) assign(data[lane], v[lane]);
}
inline void store_lanes(float* data, Vec v) { store(data, v); }
#if defined(__AVX512F__)
inline void store_lanes(Float16* data, Vec v) {
  const __m256i bits = _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(data), bits);
}
#endif

// Calls body(pointer to the row's column k) with the type of its elements.
template <class Body>
inline void with_row(const Matrix& x, int64_t row, int64_t k, const Body& body) {
  const int64_t at = row * x.row_stride + k;
  switch (x.dtype) {
    case DType::float32: body(static_cast<const float*>(x.data) + at); break;
    case DType::bfloat16: body(static_cast<const BFloat16*>(x.data) + at); break;
    case DType::float16: body(static_cast<const Float16*>(x.data) + at); break;
  }
}

// out = factor · (x - center) for a run of a row, padded up to kLanes with less than kNothing;
// returns the largest. center may be null.
inline float read_run(const Matrix& x, int64_t row, int64_t k, int count, const float* center,
                      Factor factor, float* out) {
  Vec best = broadcast(kNothing);
  const int whole = count / kLanes * kLanes;
  float tail[kLanes];
  std::fill_n(tail, kLanes, 2 * kNothing);  // independent of the factor
  with_row(x, row, k, [&](auto* data) {
    for (int i = 0; i < whole; i += kLanes) {
      __builtin_prefetch(data + i + kRun);  // the row's next run, after those of other views
      Vec v = load_lanes(data + i);
      if (center) v -= load(center + i);
      v = factor * v;
      store(out + i, v);
      best = max(best, v);
    }
    for (int i = whole; i < count; ++i)
      tail[i - whole] = to_float(data[i]) - (center ? center[i] : 0.0f);
  });
  if (whole < count) {
    const Vec v = factor * load(tail);
    store(out + whole, v);
    best = max(best, v);
  }
  return horizontal_max(best);
}

// Writes `values` to the run of `out` that starts at column k.
inline void write_run(const Matrix& out, int64_t row, int64_t k, int count, const float* values) {
  const int whole = count / kLanes * kLanes;
  with_row(out, row, k, [&](auto* constant) {
    auto* data =
        const_cast<std::remove_const_t<std::remove_pointer_t<decltype(constant)>>*>(constant);
    for (int i = 0; i < whole; i += kLanes) store_lanes(data + i, load(values + i));
    for (int i = whole; i < count; ++i) assign(data[i], values[i]);
  });
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
