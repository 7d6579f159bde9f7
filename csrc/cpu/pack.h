// From a user's matrix (any dtype, any strides) to padded float32 tiles in cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "gemm.h"
#include "sslkernels/tensor.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int kTile = 192;  // a multiple of kMicroRows and of every kPanel

inline int round_up(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

// Aligned by hand: in glibc 2.36, a freed block of the aligned allocator does not fit the next
// request of the same size, so that the heap of a loop grows.
class Buffer {
 public:
  explicit Buffer(size_t count) : owned_(new float[count + kAlignment / sizeof(float)]) {
    const auto address = reinterpret_cast<uintptr_t>(owned_.get());
    data_ = reinterpret_cast<float*>((address + kAlignment - 1) / kAlignment * kAlignment);
    std::fill_n(data_, count, 0.0f);
  }
  operator float*() const { return data_; }

 private:
  static constexpr uintptr_t kAlignment = 64;
  std::unique_ptr<float[]> owned_;
  float* data_;
};

inline float bits_to_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline float to_float(float x) { return x; }

struct BFloat16 {
  uint16_t bits;
};
inline float to_float(BFloat16 x) { return bits_to_float(uint32_t(x.bits) << 16); }

struct Float16 {
  uint16_t bits;
};
inline float to_float(Float16 x) {
  const uint32_t magnitude = x.bits & 0x7fffu;
  const float value = magnitude >= 0x7c00u
                          ? bits_to_float(magnitude << 13 | 0x7f800000u)
                          : bits_to_float(magnitude << 13) * bits_to_float(239u << 23);  // 2^112
  return x.bits & 0x8000u ? -value : value;
}

template <class T>
void load_rows(const Matrix& x, int64_t first, int count, float* out, long out_row) {
  const T* data = static_cast<const T*>(x.data) + first * x.row_stride;
  for (int i = 0; i < count; ++i, data += x.row_stride)
    for (int64_t k = 0; k < x.cols; ++k) out[i * out_row + k] = to_float(data[k * x.col_stride]);
}

// Rows [first, first + count) as float32, padded with zero rows up to kMicroRows.
// The padding of each row, past x.cols, is not written: it is zero from initialisation.
inline void load_tile(const Matrix& x, int64_t first, int count, float* out, long out_row) {
  switch (x.dtype) {
    case DType::float32: load_rows<float>(x, first, count, out, out_row); break;
    case DType::bfloat16: load_rows<BFloat16>(x, first, count, out, out_row); break;
    case DType::float16: load_rows<Float16>(x, first, count, out, out_row); break;
  }
  std::fill_n(out + count * out_row, (round_up(count, kMicroRows) - count) * out_row, 0.0f);
}

// Lanes of a, then of b, by number: as Clang and GCC 12 have it, and as older GCC has.
template <int... kFrom>
inline Vec shuffle(Vec a, Vec b) {
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, kFrom...);
#else
  return __builtin_shuffle(a, b, VecInt{kFrom...});
#endif
}

// One of the log2(kLanes) steps of a transposition: exchanges blocks of kStep lanes of two rows.
template <int kStep, int... kLane>
inline void exchange(Vec& a, Vec& b, std::integer_sequence<int, kLane...>) {
  const Vec first = shuffle<(kLane & kStep ? kLanes + kLane - kStep : kLane)...>(a, b);
  b = shuffle<(kLane & kStep ? kLanes + kLane : kLane + kStep)...>(a, b);
  a = first;
}

template <int kStep>
inline void exchange_all(Vec* rows) {
  for (int i = 0; i < kLanes; ++i)
    if (!(i & kStep))
      exchange<kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes>{});
  if constexpr (kStep > 1) exchange_all<kStep / 2>(rows);
}

// Panels of tileᵀ: column j of the product is row j of the tile. Pads with zero columns.
// Not inlined: GCC would otherwise change the products around it.
[[gnu::noinline]] inline void transpose_to_panels(const float* tile, long tile_row, int count,
                                                  int depth, float* panels) {
  for (int first = 0; first < count; first += kPanel) {
    float* panel = panels + static_cast<long>(first) * depth;
    for (int j = 0; j < kPanel; j += kLanes) {
      const float* rows = tile + static_cast<long>(first + j) * tile_row;
      const int known = std::clamp(count - first - j, 0, kLanes);
      int k = 0;
      for (; known == kLanes && k + kLanes <= depth; k += kLanes) {
        Vec square[kLanes];
        for (int i = 0; i < kLanes; ++i) square[i] = load(rows + i * tile_row + k);
        exchange_all<kLanes / 2>(square);
        for (int i = 0; i < kLanes; ++i)
          store(panel + static_cast<long>(k + i) * kPanel + j, square[i]);
      }
      for (; k < depth; ++k)
        for (int i = 0; i < kLanes; ++i)
          panel[static_cast<long>(k) * kPanel + j + i] = i < known ? rows[i * tile_row + k] : 0.0f;
    }
  }
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
