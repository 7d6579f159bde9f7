// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/random_directions.h"

#include <cmath>

#include "arena.h"
#include "exceptions.h"
#include "row.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr int64_t kThreadNumbers = 1 << 13;  // worth a thread
constexpr int kExactVectors = 32;            // summed in float before adding to a double
constexpr int kRounds = 10;

typedef uint64_t VecLong __attribute__((vector_size(kLanes * 4)));

// The product with the lower half of each lane.
inline VecLong multiply_low(VecLong a, uint32_t factor) {
#if defined(__AVX512F__)
  return (VecLong)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(factor));
#elif defined(__AVX2__)
  return (VecLong)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(factor));
#elif defined(__SSE2__)
  return (VecLong)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(factor));
#else
  return (a & 0xffffffffu) * factor;
#endif
}

inline Vec square_root(Vec x) {
#if defined(__AVX512F__)
  return (Vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
  return (Vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  return (Vec)_mm_sqrt_ps((__m128)x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = std::sqrt(x[lane]);
  return x;
#endif
}

// Philox4x32-10 of Salmon et al. (2011), a block in each 64-bit lane, whose upper half is
// meaningless.
inline void philox_lanes(const uint32_t key[2], VecLong c[4]) {
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < kRounds; ++round) {
    const VecLong first = multiply_low(c[0], 0xd2511f53u), second = multiply_low(c[2], 0xcd9e8d57u);
    c[0] = second >> 32 ^ c[1] ^ k0;
    c[2] = first >> 32 ^ c[3] ^ k1;
    c[1] = second;
    c[3] = first;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
}

// log x for 0 < x < 1, except denormals, within 2 ulp. x = 2^e m with m from √½ to √2.
inline Vec log(Vec x) {
  const VecBits bits = (VecBits)x - 0x3f3504f3u;  // √½
  const VecInt exponent = (VecInt)bits >> 23;
  const Vec m = (Vec)((bits & 0x7fffffu) + 0x3f3504f3u);
  const Vec e = __builtin_convertvector(exponent, Vec);
  return log1p(m - 1.0f) + e * -2.12194440e-4f + e * 0.693359375f;
}

// Sine and cosine of an angle in turns, |t| <= 1/2: a multiple of a quarter, and minimax
// polynomials in the remainder, with relative errors 3e-9 and 6e-11.
inline void sincos_of_turns(Vec t, Vec& sine, Vec& cosine) {
  const float round_to_integer = 12582912.0f;  // 1.5 * 2^23
  const Vec shifted = t * 4.0f + round_to_integer;
  const VecInt quarter = (VecInt)shifted;
  const Vec f = t - (shifted - round_to_integer) * 0.25f, g = f * f;
  const Vec s = f * (((g * -75.3935628f + 81.5923538f) * g - 41.3416615f) * g + 6.28318529f);
  const Vec c = g * (((g * 59.2292435f - 85.4432363f) * g + 64.9393219f) * g - 19.7392087f) + 1.0f;
  const VecInt is_odd = -(quarter & 1);
  const VecInt of_sine = (quarter & 2) << 30, of_cosine = ((quarter + 1) & 2) << 30;
  sine = (Vec)((VecInt)(is_odd ? c : s) ^ of_sine);
  cosine = (Vec)((VecInt)(is_odd ? s : c) ^ of_cosine);
}

// Two independent normal numbers from two words. Both uniform numbers are odd multiples of 2^-24,
// so that neither the radius nor a sine is ever 0.
inline void normal(VecBits radius, VecBits angle, Vec& a, Vec& b) {
  const float unit = 5.9604644775390625e-8f;  // 2^-24
  const Vec u = __builtin_convertvector((VecInt)(radius >> 8 | 1u), Vec) * unit;
  const Vec t = __builtin_convertvector((VecInt)angle >> 8 | 1, Vec) * unit;
  const Vec r = square_root(log(u) * -2.0f);
  Vec sine, cosine;
  sincos_of_turns(t, sine, cosine);
  a = r * cosine;
  b = r * sine;
}

// The four words of the blocks from `first` on, one block per lane.
inline void draw(const uint32_t key[2], uint32_t first, uint32_t slice, uint64_t step,
                 VecBits words[4]) {
  VecLong even[4], odd[4];
  for (int lane = 0; lane < kLanes / 2; ++lane) even[0][lane] = first + 2 * lane;
  odd[0] = even[0] + 1;
  even[1] = odd[1] = slice - VecLong{};
  even[2] = odd[2] = (step & 0xffffffffu) - VecLong{};
  even[3] = odd[3] = (step >> 32) - VecLong{};
  philox_lanes(key, even);
  philox_lanes(key, odd);
  for (int w = 0; w < 4; ++w) words[w] = (VecBits)((even[w] & 0xffffffffu) | odd[w] << 32);
}

double sum_of_squares(const float* x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count;) {
    const int64_t end = std::min<int64_t>(count, i + kExactVectors * kLanes);
    Vec lanes{};
    for (; i < end; i += kLanes) lanes += load(x + i) * load(x + i);
    for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  }
  return sum;
}

// One row. The words of block j give the numbers at j, quarter + j, and so on.
void direction(const RandomDirections& p, int64_t slice, float* numbers, const Matrix& out) {
  const uint32_t key[2] = {static_cast<uint32_t>(p.seed), static_cast<uint32_t>(p.seed >> 32)};
  const int64_t quarter = (p.features + 3) / 4;
  const int64_t padded = (quarter + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = 0; j < quarter; j += kLanes) {
    VecBits words[4];
    Vec x[4];
    draw(key, static_cast<uint32_t>(j), static_cast<uint32_t>(slice), p.step, words);
    normal(words[0], words[1], x[0], x[1]);
    normal(words[2], words[3], x[2], x[3]);
    for (int w = 0; w < 4; ++w) store(numbers + w * padded + j, x[w]);
  }
  int64_t count[4];
  for (int w = 0; w < 4; ++w) {
    count[w] = std::clamp<int64_t>(p.features - w * quarter, 0, quarter);
    std::fill_n(numbers + w * padded + count[w], padded - count[w], 0.0f);
  }
  const float inverse = static_cast<float>(1 / std::sqrt(sum_of_squares(numbers, 4 * padded)));
  for (int64_t i = 0; i < 4 * padded; i += kLanes) store(numbers + i, load(numbers + i) * inverse);
  for (int w = 0; w < 4; ++w)
    for (int64_t k = 0; k < count[w]; k += kRun)
      write_run(out, slice, w * quarter + k,
                static_cast<int>(std::min<int64_t>(kRun, count[w] - k)), numbers + w * padded + k);
}

}  // namespace

void philox(const uint32_t key[2], uint32_t counter[4]) {
  VecLong c[4];
  for (int w = 0; w < 4; ++w) c[w] = counter[w] - VecLong{};
  philox_lanes(key, c);
  for (int w = 0; w < 4; ++w) counter[w] = static_cast<uint32_t>(c[w][0]);
}

void random_directions(const RandomDirections& p, void* data) {
  const Matrix out{data, p.dtype, p.slices, p.features, p.features, 1};
  const int64_t most = std::min<int64_t>(p.slices, std::max(1, p.threads));
  const int threads =
      static_cast<int>(std::clamp<int64_t>(p.slices * p.features / kThreadNumbers, 1, most));
  Exceptions exceptions;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; ++t)
    exceptions.keep([&] {
      Arena arena;
      float* numbers = arena.take(p.features + 4 * kLanes + 4);
      for (int64_t i = p.slices * t / threads; i < p.slices * (t + 1) / threads; ++i)
        direction(p, i, numbers, out);
    });
  exceptions.rethrow();
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
